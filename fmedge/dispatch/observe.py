"""What dispatch tells the metrics of a finished generation, and of now when they are read."""

from __future__ import annotations

import time

from fmedge.dispatch.generation import Generation
from fmedge.dispatch.status import DispatcherStatus
from fmedge.metrics import Metrics


def observe_finish(metrics: Metrics, generation: Generation, outcome: str) -> None:
    """Count a generation that finished just now, and its times as the front saw them."""
    model, now_s = generation.request.model, time.monotonic()
    metrics.requests.labels(model, outcome).inc()
    metrics.e2e_seconds.labels(model).observe(now_s - generation.arrived_s)
    metrics.cached_tokens.labels(model).inc(generation.num_cached_tokens)
    if generation.first_token_s:
        metrics.ttft_seconds.labels(model).observe(generation.first_token_s - generation.arrived_s)
    if generation.num_tokens > 1:
        decode_s = now_s - generation.first_token_s
        metrics.tpot_seconds.labels(model).observe(decode_s / (generation.num_tokens - 1))
    if generation.timings is not None:
        queue_s = generation.assigned_s - generation.arrived_s + generation.timings.queue_s
        metrics.queue_seconds.labels(model).observe(queue_s)


def set_gauges(metrics: Metrics, status: DispatcherStatus) -> None:
    """Set every gauge to what is now."""
    for model in status.models:
        num_waiting = model.num_waiting
        for load in model.replicas:
            labels = (model.name, load.status.name)
            num_waiting += load.num_waiting
            metrics.requests_running.labels(*labels).set(load.num_running)
            metrics.kv_used_tokens.labels(*labels).set(load.kv_tokens_used)
            kv_usage = load.kv_tokens_used / load.kv_tokens if load.kv_tokens else 0.0
            metrics.kv_usage_ratio.labels(*labels).set(kv_usage)
            metrics.replica_ready.labels(*labels).set(load.status.state == "ready")
            metrics.replica_rss_bytes.labels(*labels).set(load.status.rss_bytes)
        metrics.requests_waiting.labels(model.name).set(num_waiting)
