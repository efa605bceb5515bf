"""What dispatch tells the metrics of a finished generation, and of now when they are read."""

from __future__ import annotations

import contextlib
import time
from math import inf, nan

from fmedge.dispatch.generation import Generation
from fmedge.dispatch.status import DispatcherStatus
from fmedge.metrics import Metrics
from fmedge.sched.events import Observed
from fmedge.types import Promise

RECTIFIED = ("moved", "withdrawn", "demoted")


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


def observed_of(generation: Generation, now_s: float) -> Observed:
    """What a generation that ended just now took, as the front saw it."""
    e2e_s = now_s - generation.arrived_s
    ttft_s = (generation.first_token_s or now_s) - generation.arrived_s
    l_q_s = link_s = nan
    timings = generation.timings
    if timings is not None:
        l_q_s = generation.assigned_s - generation.arrived_s + timings.queue_s
        if not generation.was_resumed:
            link_s = max(0.0, ttft_s - l_q_s - timings.prefill_s)
    return Observed(
        ttft_s=ttft_s,
        l_q_s=l_q_s,
        l_x_s=e2e_s - l_q_s,
        e2e_s=e2e_s,
        link_s=link_s,
        num_output_tokens=generation.num_tokens,
        tokens=generation.emitted.tobytes(),
    )


def observe_decision(metrics: Metrics, generation: Generation) -> None:
    """Whether the promise held, and how good the estimates were; after the core's on_finish."""
    decision = generation.decision
    if decision is None:
        return
    model = decision.model
    if decision.held is not None:
        held = "true" if decision.held else "false"
        metrics.sla_requests.labels(model, decision.sla_class, held).inc()
        if decision.held:
            metrics.goodput_tokens.labels(model, decision.sla_class).inc(generation.num_tokens)
    estimate = decision.estimate
    if estimate is None:
        return
    for what, seen_s, told_s in (
        ("ttft", decision.observed_ttft_s, estimate.ttft_s),
        ("e2e", decision.observed_e2e_s, estimate.e2e_s),
    ):
        if seen_s > 0 and told_s > 0:
            metrics.estimate_ratio.labels(model, what).observe(seen_s / told_s)
    for event in decision.events:
        if event.what in RECTIFIED:
            metrics.rectified.labels(model, event.what).inc()


def observe_refusal(metrics: Metrics, model: str, reason: str, promise: Promise | None) -> None:
    """Count a request that was not taken; a promise that was refused did not hold."""
    sla_class = "" if promise is None else promise.sla_class
    metrics.refusals.labels(model, sla_class, reason).inc()
    if promise is not None and min(promise.ttft_s, promise.tpot_s, promise.e2e_s) < inf:
        metrics.sla_requests.labels(model, sla_class, "false").inc()


def set_gauges(metrics: Metrics, status: DispatcherStatus) -> None:
    """Set every gauge to what is now."""
    for gauge in (metrics.requests_waiting, metrics.model_ready, metrics.model_failed):
        gauge.clear()  # models come and go, too
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
        states = [load.status.state for load in model.replicas]
        has_failed = bool(model.error) or (bool(states) and set(states) == {"failed"})
        metrics.requests_waiting.labels(model.name).set(num_waiting)
        metrics.model_ready.labels(model.name).set(model.is_ready)
        metrics.model_failed.labels(model.name).set(has_failed)


def forget_replica(metrics: Metrics, model: str, replica: str) -> None:
    """It is no more: its gauges, which say what is, end; what was counted stays."""
    for gauge in (
        metrics.requests_running,
        metrics.kv_used_tokens,
        metrics.kv_usage_ratio,
        metrics.replica_ready,
        metrics.replica_rss_bytes,
    ):
        with contextlib.suppress(KeyError):  # nobody has read the metrics since it came
            gauge.remove(model, replica)
