"""Prometheus metrics of one server, in a registry of its own; whoever counts is handed a `Metrics`.

Names follow Prometheus' conventions: base units, `_total` for counters. `model` is the served
name, `replica` one process of it; the `process_` ones are of the front. docs/operations.md says
what to watch.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from fmedge import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
)  # fmt: skip
LOAD_BUCKETS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
RATIO_BUCKETS = (0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.11, 1.25, 1.5, 2.0, 4.0)
TOKEN_BUCKETS_S = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0,
)  # fmt: skip


class Metrics:
    """Every metric of the front. Gauges are set when asked for; the rest as things happen."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        by_model, by_replica = ("model",), ("model", "replica")

        def gauge(name: str, text: str, labels: tuple[str, ...]) -> Gauge:
            return Gauge(f"fmedge_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(f"fmedge_{name}", text, labels, registry=self.registry)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = by_model
        ) -> Histogram:
            return Histogram(
                f"fmedge_{name}", text, labels, buckets=buckets, registry=self.registry
            )

        self.requests_running = gauge("requests_running", "Sequences that decode now.", by_replica)
        self.requests_waiting = gauge(
            "requests_waiting", "Requests that wait, at the front or in a replica.", by_model
        )
        self.kv_used_tokens = gauge("kv_used_tokens", "KV cache cells in use.", by_replica)
        self.kv_usage_ratio = gauge("kv_usage_ratio", "KV cache in use, 0 to 1.", by_replica)
        self.replica_ready = gauge("replica_ready", "1 when the replica serves.", by_replica)
        self.replica_rss_bytes = gauge(
            "replica_rss_bytes", "Resident memory of the worker process.", by_replica
        )
        self.ttft_seconds = histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", LATENCY_BUCKETS_S
        )
        self.tpot_seconds = histogram(
            "time_per_output_token_seconds",
            "Mean time between a request's tokens after its first.",
            TOKEN_BUCKETS_S,
        )
        self.e2e_seconds = histogram(
            "request_seconds", "From arrival to the last token.", LATENCY_BUCKETS_S
        )
        self.queue_seconds = histogram(
            "queue_seconds", "Waiting at the front and in the replica.", LATENCY_BUCKETS_S
        )
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of requests.", by_model)
        self.generated_tokens = counter("generated_tokens", "Tokens generated.", by_model)
        self.cached_tokens = counter(
            "cached_tokens", "Prompt tokens whose KV was already there.", by_model
        )
        self.requests = counter(
            "requests", "Requests by outcome: a finish reason, or why not.", ("model", "outcome")
        )
        self.worker_restarts = counter(
            "worker_restarts",
            "Worker processes that crashed while they served, or were killed as they hung.",
            ("model", "replica", "reason"),
        )
        self.preemptions = counter(
            "preemptions", "Sequences set aside because KV was full.", by_replica
        )
        self.sla_requests = counter(
            "sla_requests",
            "Requests with a promise that ended, by whether it held; refused ones included.",
            ("model", "sla_class", "held"),
        )
        self.goodput_tokens = counter(
            "goodput_tokens",
            "Tokens generated for requests whose promise held.",
            ("model", "sla_class"),
        )
        self.refusals = counter(
            "refusals", "Requests refused, by reason.", ("model", "sla_class", "reason")
        )
        self.rectified = counter(
            "rectified_requests",
            "Requests moved to another replica, withdrawn from one, or demoted to best effort.",
            ("model", "what"),
        )
        self.estimate_ratio = histogram(
            "estimate_ratio",
            "Observed over estimated latency, as estimated at admission.",
            RATIO_BUCKETS,
            ("model", "what"),
        )
        self.step_drift_ratio = gauge(
            "step_drift_ratio",
            "Step time now over what the replica's profile says.",
            ("model", "replica", "phase"),
        )
        self.step_drifts = counter(
            "step_drifts", "Lasting changes of a replica's step time.", by_replica
        )
        self.model_ready = gauge("model_ready", "1 when a replica of the model serves.", by_model)
        self.model_failed = gauge("model_failed", "1 when the model cannot be loaded.", by_model)
        self.model_load_seconds = histogram(
            "model_load_seconds",
            "From a worker's start until its weights are there.",
            LOAD_BUCKETS_S,
        )
        self.model_unloads = counter(
            "model_unloads", "Replicas that were unloaded while the server ran.", by_model
        )
        self.device_capacity_bytes = gauge(
            "device_capacity_bytes", "Memory that plans may use of a device.", ("device",)
        )
        self.device_used_bytes = gauge(
            "device_used_bytes", "Of it, what loaded replicas take by the plan.", ("device",)
        )
        self.state_kept = gauge(
            "state_kept", "1 when what is learned can be kept in the state folder.", ("folder",)
        )
        build = gauge("build_info", "1; the version is a label.", ("version",))
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)

        self.config_reloads = counter(
            "config_reloads",
            "Times that the configuration was read anew: applied, or refused as it is wrong.",
            ("outcome",),
        )
        self.config_last_success = Gauge(
            "fmedge_config_last_success_timestamp_seconds",
            "When the configuration in force was read.",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """All of it in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)
