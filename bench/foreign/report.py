"""One engine's log against fmedge's estimates: read, fit, replay, compare, print.

The rule: the estimates that count see the profile and the limits alone. A correction learned from
the log's first requests is shown beside them, on the others.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.foreign.compare import Errors, Estimate, compare, table
from bench.foreign.engine import EngineLimits
from bench.foreign.log import LoggedRequest, read_log
from bench.foreign.profile import read_profile
from bench.foreign.replay import replay, replay_on_arrival
from bench.foreign.samples import samples
from fmedge.sched.fit import FitReport, fit
from fmedge.sched.steptime import SCALE_DECODE, SCALE_PREFILL

NUM_LEARNED = 30
"""Requests of the log's beginning that the correction is learned from."""

CORRECTIONS = 3
"""Rounds of it: steps of another length make batches of another size, which changes the steps."""


class ForeignReport(msgspec.Struct, frozen=True):
    """What came out for one engine; errors in the order of `compare`."""

    name: str
    fit: FitReport
    num_requests: int
    num_preemptions: int
    errors: list[Errors]
    on_arrival: list[Errors]
    correction: float
    corrected: list[Errors]

    def error(self, name: str) -> Errors:
        return next(errors for errors in self.errors if errors.name == name)

    def text(self) -> str:
        """For people."""
        kinds = ", ".join(
            f"{region.region} {region.median_error:.1%}" for region in self.fit.regions
        )
        lines = [
            f"{self.name}: {self.num_requests} requests, preempted {self.num_preemptions} times",
            f"step time on {self.fit.num_samples} steps of the profile, unseen ones: median error "
            f"{self.fit.median_error:.1%}, p90 {self.fit.p90_error:.1%} ({kinds})",
            "errors: of |estimate / actual - 1|; bias: the median with its sign; of sum: of all "
            "requests' time together; (-n): left out, since less than a step passed",
            "",
            table("from the profile alone", self.errors),
            "",
            table("knowing earlier arrivals", self.on_arrival),
        ]
        if self.corrected:
            title = f"all steps x {self.correction:.3f}"
            lines += [
                "",
                f"corrected by what the first {NUM_LEARNED} requests took, on the others:",
                table(title, self.corrected),
            ]
        return "\n".join(lines)


def evaluate(folder: Path, limits: EngineLimits) -> ForeignReport:
    """ProfileError for files that cannot be used."""
    log = read_log(folder / "requests.jsonl")
    fitted = fit(samples(read_profile(folder, limits.num_layers), limits))
    packed = fitted.model.packed()
    estimates = replay(log, packed, limits)
    # less than the least step is no wait
    shortest_s = fitted.model.step_s(0, 1)
    factor, again = 1.0, estimates
    corrected = []
    if len(log) > NUM_LEARNED:
        for _ in range(CORRECTIONS):
            factor *= correction(log, again)
            again = replay(log, scaled(packed, factor), limits)
        corrected = compare(log[NUM_LEARNED:], again[NUM_LEARNED:], shortest_s)
    return ForeignReport(
        name=folder.name,
        fit=fitted,
        num_requests=len(log),
        num_preemptions=sum(estimate.num_preemptions for estimate in estimates),
        errors=compare(log, estimates, shortest_s),
        on_arrival=compare(log, replay_on_arrival(log, packed, limits), shortest_s),
        correction=factor,
        corrected=corrected,
    )


def correction(log: Sequence[LoggedRequest], estimates: Sequence[Estimate]) -> float:
    """How much longer than estimated the first requests' tokens took, after their first: the
    median ratio; 1 where there is nothing to learn from."""
    ratios = [
        (request.last_token_s - request.first_token_s)
        / (estimate.last_token_s - estimate.first_token_s)
        for request, estimate in zip(log[:NUM_LEARNED], estimates, strict=False)
        if request.num_output_tokens > 1
    ]
    return statistics.median(ratios) if ratios else 1.0


def scaled(packed: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The model with every step `factor` times as long, a new array."""
    out = packed.copy()
    out[SCALE_PREFILL] *= factor
    out[SCALE_DECODE] *= factor
    return out
