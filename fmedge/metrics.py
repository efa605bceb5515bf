"""Prometheus metrics of one server, in a registry of its own; whoever counts is handed a `Metrics`.

Names follow Prometheus' conventions: base units, `_total` for counters. `model` is the served
name, `replica` one process of it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
)  # fmt: skip
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

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"fmedge_{name}", text, by_model, buckets=buckets, registry=self.registry
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
            "worker_restarts", "Worker processes that were lost.", by_replica
        )
        self.preemptions = counter(
            "preemptions", "Sequences set aside because KV was full.", by_replica
        )

    def render(self) -> bytes:
        """All of it in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)
