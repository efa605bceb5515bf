"""How far l_est is from what happens, on real llama.cpp: two unequal replicas of one model, open
loop at 50, 80 and 110 % of what they can serve. First with lengths known, then with lengths that
only the model's own end of a text decides."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from bench.context import Bench, Outcome, Skipped
from bench.sla import traces
from bench.sla.pair import MODEL, Observed, Pair, Sent, capacity, open_loop, prompt
from bench.sla.traces import Trace
from fmedge.dispatch import Dispatcher
from fmedge.types import GenerationRequest, SamplingParams

LOADS = (0.5, 0.8, 1.1)
MAPE_LIMITS = {0.5: 10.0, 0.8: 10.0, 1.1: 15.0}
SCALE, LONGEST = 1 / 4, 600
NUM_CAPACITY, NUM_WARM_UP, NUM_MEASURED = 80, 60, 160
COVERAGE, COVERAGE_TOLERANCE = 90.0, 3.0
SLOT_COUNTS = (1, 4)
"""The more slots, the more of a request's time is decided by requests that have not come yet: in
virtual time, with perfect step times, end-to-end estimates at 50 % load are 2 % off with one slot,
22 % with four. So one slot shows how good the estimates are, four what they are worth."""


async def run(bench: Bench) -> list[Outcome | Skipped]:
    found: list[Outcome | Skipped] = []
    for slots in SLOT_COUNTS:
        found += await _with_slots(bench, slots)
    return found


async def _with_slots(bench: Bench, slots: int) -> list[Outcome | Skipped]:
    found: list[Outcome | Skipped] = []
    factor = 3 if bench.is_full else 1
    async with Pair(bench, slots).serving() as dispatcher:
        trace = traces.load(NUM_CAPACITY, scale=SCALE, longest=LONGEST)
        per_s = await capacity(dispatcher, [known(item, n) for n, item in enumerate(trace.items)])
        bench.say(f"  slots {slots}: {per_s:.2f} requests/s at capacity; {trace.source}")
        for load in LOADS:
            count = NUM_WARM_UP + factor * NUM_MEASURED
            part = traces.load(count, skip=NUM_CAPACITY, scale=SCALE, longest=LONGEST)
            done = await open_loop(dispatcher, _known_requests(part.at_rate(load * per_s)))
            found += _known_outcomes(bench, slots, load, done[NUM_WARM_UP:])
        count = 3 * NUM_WARM_UP + 2 * factor * NUM_MEASURED
        part = traces.load(count, skip=NUM_CAPACITY, scale=SCALE, longest=LONGEST)
        calibration = await _eos_logit(dispatcher)
        done = await open_loop(
            dispatcher, _unknown_requests(part.at_rate(0.7 * per_s), calibration)
        )
        found += _unknown_outcomes(bench, slots, done[3 * NUM_WARM_UP :])
    return found


def known(item: traces.Item, seed: int) -> GenerationRequest:
    """A request whose output has exactly the item's length."""
    return GenerationRequest(
        model=MODEL,
        prompt=prompt(item.num_prompt_tokens, seed),
        max_tokens=item.num_output_tokens,
        min_tokens=item.num_output_tokens,
        ignore_eos=True,
        sampling=SamplingParams(seed=seed),
    )


def _known_requests(trace: Trace) -> list[Sent]:
    return [(item.at_s, known(item, 1000 + n), "") for n, item in enumerate(trace.items)]


def ending(item: traces.Item, seed: int, eos_logit: float, eos: int) -> GenerationRequest:
    """A request that ends by itself: each token is its last with probability 1 / the item's
    length, which nobody who estimates is told."""
    chance = 1 / max(2, item.num_output_tokens)
    bias = math.log(chance / (1 - chance)) - eos_logit
    return GenerationRequest(
        model=MODEL,
        prompt=prompt(item.num_prompt_tokens, seed),
        max_tokens=LONGEST // 2 + 100,
        sampling=SamplingParams(seed=seed, logit_bias=((eos, bias),)),
        stop_token_ids=(eos,),
        length_keys=(f"{MODEL}",),
    )


EOS = 2


async def _eos_logit(dispatcher: Dispatcher) -> float:
    """The mean logit of ending, against all else: from how long texts become under a bias that is
    moved until they have a middling length."""
    bias, mean = 0.0, math.inf
    for _ in range(12):
        lengths = []
        for seed in range(8):
            request = GenerationRequest(
                model=MODEL,
                prompt=prompt(16, 900_000 + seed),
                max_tokens=80,
                sampling=SamplingParams(seed=seed, logit_bias=((EOS, bias),)),
                stop_token_ids=(EOS,),
            )
            lengths.append((await open_loop(dispatcher, [(0.0, request, "")]))[0].num_output_tokens)
        mean = statistics.mean(lengths) + 1
        if 5 <= mean <= 40:
            break
        bias += 2.0 if mean > 40 else -1.0
    chance = 1 / mean
    return math.log(chance / (1 - chance)) - bias


def _unknown_requests(trace: Trace, eos_logit: float) -> list[Sent]:
    return [
        (item.at_s, ending(item, 5000 + n, eos_logit, EOS), "")
        for n, item in enumerate(trace.items)
    ]


def mape(pairs: Sequence[tuple[float, float]]) -> float:
    """Mean absolute error in percent of the observed; pairs are (estimated, observed)."""
    return 100 * statistics.mean(abs(a - b) / b for a, b in pairs)


def _known_outcomes(
    bench: Bench, slots: int, load: float, done: Sequence[Observed]
) -> list[Outcome | Skipped]:
    row = f"estimates, {slots} slots, lengths known, {load:.0%} load"
    made = [(o.decision.estimate, o) for o in done if o.decision and o.decision.estimate]
    if len(made) < len(done):
        return [Skipped(row, f"failed: {len(done) - len(made)} of {len(done)} had no estimate")]
    ttft = [(e.ttft_s, o.ttft_s) for e, o in made]
    e2e = [(e.e2e_s, o.e2e_s) for e, o in made]
    total = sum(o.e2e_s for _, o in made)
    detail = {
        "requests": len(made),
        "ttft_median_error": statistics.median(abs(a - b) / b for a, b in ttft),
        "e2e_median_error": statistics.median(abs(a - b) / b for a, b in e2e),
        "ttft_bias": statistics.median(a / b for a, b in ttft) - 1,
        "e2e_bias": statistics.median(a / b for a, b in e2e) - 1,
        "l_q_error_of_e2e": sum(abs(e.l_q_s - o.l_q_s) for e, o in made) / total,
        "l_x_error_of_e2e": sum(abs(e.l_x_s - o.l_x_s) for e, o in made) / total,
        "l_q_share": sum(o.l_q_s for _, o in made) / total,
        "on_fast": statistics.mean(e.replica == "fast" for e, _ in made),
        "ttft_p50_ms": 1e3 * statistics.median(o.ttft_s for _, o in made),
        "e2e_p50_ms": 1e3 * statistics.median(o.e2e_s for _, o in made),
    }
    shown = {key: round(value, 3) for key, value in detail.items()}
    bench.say(f"  {load:.0%}: TTFT {mape(ttft):.1f} %, e2e {mape(e2e):.1f} %, {shown}")
    limit = MAPE_LIMITS[load]
    return [
        Outcome(row, "MAPE of TTFT", mape(ttft), "%", limit, False, detail=detail),
        Outcome(row, "MAPE of end-to-end", mape(e2e), "%", limit, False, detail=detail),
    ]


def _unknown_outcomes(
    bench: Bench, slots: int, done: Sequence[Observed]
) -> list[Outcome | Skipped]:
    row = f"estimates, {slots} slots, lengths unknown, 70% load"
    found: list[Outcome | Skipped] = []
    for what in ("ttft", "e2e"):
        hits = [
            getattr(o, f"{what}_s") <= getattr(o.decision.estimate, f"{what}_p90_s")
            for o in done
            if o.decision and o.decision.estimate
        ]
        covered = 100 * float(np.mean(hits))
        bench.say(f"  p90 of {what} covers {covered:.1f} % of {len(hits)}")
        found.append(
            Outcome(
                row, f"p90 of {what} covers 90 %, off by", abs(covered - COVERAGE), "points",
                COVERAGE_TOLERANCE, False, detail={"covered": covered, "requests": len(hits)},
            )
        )  # fmt: skip
    return found
