"""Estimates beside what happened.

The rule: relative errors are of the time that really passed; a wait too short to be one (less than
one step) has no relative error and is left out of the relative columns, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.foreign.log import LoggedRequest


class Estimate(msgspec.Struct, frozen=True):
    """One request's times in seconds, on the log's clock."""

    scheduled_s: float
    first_token_s: float
    last_token_s: float
    num_preemptions: int = 0


class Errors(msgspec.Struct, frozen=True):
    """Of one quantity over `num` requests: relative errors (1 = 100 %), absolute ones in seconds.

    bias: median of the signed relative error, positive where the estimate is too long;
    total_bias: of the sum over all requests.
    """

    name: str
    num: int
    num_left_out: int
    actual_mean_s: float
    median: float
    mean: float
    p90: float
    bias: float
    total_bias: float
    median_abs_s: float


def compare(
    log: Sequence[LoggedRequest], estimates: Sequence[Estimate], shortest_s: float
) -> list[Errors]:
    """Queue wait (l_q), execution (l_x), TTFT and end to end; as many estimates as requests, in
    the same order. shortest_s: what passes less than this is left out of relative errors.
    """
    arrival = np.array([r.arrival_s for r in log])
    queued = np.array([r.queued_s for r in log])
    start = np.array([e.scheduled_s for e in estimates])
    first = np.array([e.first_token_s for e in estimates])
    last = np.array([e.last_token_s for e in estimates])
    return [
        _errors("queue wait (l_q)", [r.queue_wait_s for r in log],
                np.maximum(0.0, start - queued), shortest_s),
        _errors("execution (l_x)", [r.execution_s for r in log], last - start, shortest_s),
        _errors("TTFT", [r.ttft_s for r in log], first - arrival, shortest_s),
        _errors("end to end", [r.e2e_s for r in log], last - arrival, shortest_s),
    ]  # fmt: skip


def _errors(
    name: str, actual_list: list[float], estimate: NDArray[np.float64], shortest_s: float
) -> Errors:
    actual = np.array(actual_list)
    counts = actual >= shortest_s
    left_out = int(len(actual) - counts.sum())
    if not counts.any():
        nan = float("nan")
        absolute = float(np.median(np.abs(estimate - actual)))
        return Errors(name, 0, left_out, float(actual.mean()), nan, nan, nan, nan, nan, absolute)
    signed = (estimate[counts] - actual[counts]) / actual[counts]
    error = np.abs(signed)
    return Errors(
        name=name,
        num=int(counts.sum()),
        num_left_out=left_out,
        actual_mean_s=float(actual.mean()),
        median=float(np.median(error)),
        mean=float(error.mean()),
        p90=float(np.quantile(error, 0.9)),
        bias=float(np.median(signed)),
        total_bias=float(estimate.sum() / actual.sum() - 1),
        median_abs_s=float(np.median(np.abs(estimate - actual))),
    )


def table(title: str, rows: Sequence[Errors]) -> str:
    """Columns for people; relative errors in percent."""
    head = (
        f"{title:<28} {'mean s':>8} {'median':>8} {'mean':>8} {'p90':>8} {'bias':>8} "
        f"{'of sum':>8} {'median ms':>10} {'requests':>9}"
    )
    lines = [head]
    for row in rows:
        left = f" (-{row.num_left_out})" if row.num_left_out else ""
        lines.append(
            f"  {row.name:<26} {row.actual_mean_s:8.2f} {row.median:8.2%} {row.mean:8.2%} "
            f"{row.p90:8.2%} {row.bias:+8.2%} {row.total_bias:+8.2%} "
            f"{1e3 * row.median_abs_s:10.1f} {row.num:>4}{left}"
        )
    return "\n".join(lines)
