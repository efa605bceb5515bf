"""What became of a workload's calls, simulated or measured at a server.

The rule: a call that was refused, failed or never ended has not kept its promise, and neither has a
task of which a call did not.
"""

from __future__ import annotations

from math import inf, nan
from typing import Literal

from msgspec import Struct

from fmedge.sim.workload import Call

INTERRUPTED = "interrupted"
"""Why a run is partial that somebody ended."""

Status = Literal["ok", "refused", "failed", "timeout", "unsent", "unfinished"]


class Row(Struct, frozen=True, kw_only=True, array_like=True):
    """One call, by its place in the workload. Times in seconds: at_s on the run's clock, the others
    from then; nan where it never came to that. unsent: a call that it waits for failed, or the run
    was ended before. unfinished: the run was. replica: where it ended, "" where nobody knows.
    tpot_s: (e2e - ttft) / (tokens - 1)."""

    call: int
    at_s: float
    status: Status
    ttft_s: float = nan
    e2e_s: float = nan
    num_tokens: int = 0
    num_cached: int = 0
    replica: str = ""

    @property
    def tpot_s(self) -> float:
        return (self.e2e_s - self.ttft_s) / (self.num_tokens - 1) if self.num_tokens > 1 else 0.0


def is_held(call: Call, row: Row) -> bool:
    """Whether its own promise held; of a call without one, whether it was answered."""
    promise = call.promise
    return row.status == "ok" and (
        row.ttft_s <= promise.ttft_s and row.tpot_s <= promise.tpot_s and row.e2e_s <= promise.e2e_s
    )


def has_promise(call: Call) -> bool:
    promise = call.promise
    return min(promise.ttft_s, promise.tpot_s, promise.e2e_s) < inf
