"""Response headers that say what was estimated at admission; the numbers are there already.

They describe the first of a request's sequences. Made while its first token is being computed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from multidict import istr

if TYPE_CHECKING:
    from fmedge.dispatch import Generation

REQUEST_ID = istr("x-fmedge-request-id")
SLA = istr("x-fmedge-sla")
REPLICA = istr("x-fmedge-replica")
L_EST = istr("x-fmedge-l-est-ms")
L_Q = istr("x-fmedge-l-q-ms")
L_X = istr("x-fmedge-l-x-ms")
L_R = istr("x-fmedge-l-r-ms")
TTFT = istr("x-fmedge-ttft-est-ms")

DESCRIPTIONS = {
    REQUEST_ID: "What `fmedge why` and GET /admin/decisions take.",
    SLA: "The SLA class that holds for this request.",
    REPLICA: "The replica that serves it.",
    L_EST: "l_q + l_x + l_r in milliseconds, as estimated at admission (median).",
    L_Q: "Until the prefill starts.",
    L_X: "Prefill and decode.",
    L_R: "What remains after this call: the rest of its workflow.",
    TTFT: "Until the first token.",
}


def estimate_headers(generation: Generation) -> dict[str, str]:
    """Names to values; without estimates where there are none yet."""
    headers: dict[str, str] = {REQUEST_ID: str(generation.request_id)}
    if generation.replica:
        headers[REPLICA] = generation.replica
    promise = generation.request.promise
    if promise.sla_class:
        headers[SLA] = promise.sla_class
    decision = generation.decision
    estimate = None if decision is None else decision.estimate
    if estimate is None:
        return headers
    l_q_ms, l_x_ms, l_r_ms = estimate.l_q_s * 1e3, estimate.l_x_s * 1e3, estimate.l_r_s * 1e3
    l_est_ms = l_q_ms + l_x_ms + l_r_ms
    headers[REPLICA] = generation.replica or estimate.replica
    if l_est_ms < inf:
        headers[L_EST] = f"{l_est_ms:.2f}"
        headers[L_Q] = f"{l_q_ms:.2f}"
        headers[L_X] = f"{l_x_ms:.2f}"
        headers[L_R] = f"{l_r_ms:.2f}"
    if estimate.ttft_s < inf:
        headers[TTFT] = f"{estimate.ttft_s * 1e3:.2f}"
    return headers
