"""What routing on l_est is worth: promises kept at 90 % load with mixed classes on two unequal
replicas, against the usual policies in the same process, the same arrivals for each."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.context import Bench, Outcome, Skipped
from bench.sla import traces
from bench.sla.estimates import LONGEST, NUM_CAPACITY, SCALE, known
from bench.sla.pair import MODEL, Observed, Pair, Sent, capacity, open_loop, prompt, serve
from fmedge.dispatch import Dispatcher
from fmedge.sched.core import Policy
from fmedge.types import GenerationRequest, Promise, SamplingParams

LOAD = 0.9
PEERS: tuple[Policy, ...] = ("round_robin", "least_outstanding", "power_of_two")
POLICIES: tuple[Policy, ...] = ("fmedge", *PEERS)
NUM_REQUESTS = 240
NUM_WARM_UP = 40
INTERACTIVE_SHARE, BATCH_SHARE = 0.5, 0.2  # the rest is best effort
BEST_EFFORT_KEYS = 3


async def run(bench: Bench) -> list[Outcome | Skipped]:
    rounds: dict[str, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
    classes: dict[str, Promise] = {}
    pair = Pair(bench)
    per_s = 0.0
    for number in range(min(bench.rounds, 5 if bench.is_full else 2)):
        for policy in POLICIES:
            async with pair.serving(policy) as dispatcher:
                if not classes:
                    sample = traces.load(NUM_CAPACITY, scale=SCALE, longest=LONGEST)
                    requests = [known(item, n) for n, item in enumerate(sample.items)]
                    per_s = await capacity(dispatcher, requests)
                    classes = await _classes(dispatcher)
                    bench.say(f"  capacity {per_s:.2f} requests/s; {_describe(classes)}")
                sent = _mixed(number, LOAD * per_s, classes)
                done = await open_loop(dispatcher, sent)
            figures = _figures(done[NUM_WARM_UP:], sent[-1][0])
            rounds[policy].append(figures)
            shown = {key: round(value, 3) for key, value in figures.items()}
            bench.say(f"  round {number}, {policy}: {shown}")
    return _outcomes(rounds)


async def _classes(dispatcher: Dispatcher) -> dict[str, Promise]:
    """Limits in units of what an unloaded fast replica needs, as an operator would set them."""
    item = traces.Item(0.0, 128, 48)
    alone = [await serve(dispatcher, known(item, 70_000 + n)) for n in range(5)]
    ttft_s = statistics.median(o.ttft_s for o in alone)
    tpot_s = statistics.median(o.tpot_s for o in alone)
    e2e_s = statistics.median(o.e2e_s for o in alone)
    return {
        "interactive": Promise(
            sla_class="interactive", ttft_s=6 * ttft_s, tpot_s=5 * tpot_s, target=0.9
        ),
        "batch": Promise(sla_class="batch", e2e_s=12 * e2e_s, target=0.9),
    }


def _describe(classes: dict[str, Promise]) -> str:
    one, two = classes["interactive"], classes["batch"]
    return (
        f"interactive: TTFT {one.ttft_s * 1e3:.0f} ms, TPOT {one.tpot_s * 1e3:.1f} ms; "
        f"batch: e2e {two.e2e_s * 1e3:.0f} ms"
    )


def _mixed(number: int, per_s: float, classes: dict[str, Promise]) -> list[Sent]:
    """The next part of the trace; a request's class follows from its place alone."""
    count = NUM_WARM_UP + NUM_REQUESTS
    part = traces.load(
        count, skip=NUM_CAPACITY + number * count, scale=SCALE, longest=LONGEST
    ).at_rate(per_s)
    sent: list[Sent] = []
    for place, item in enumerate(part.items):
        draw = (place * 0.6180339887) % 1.0
        if draw < INTERACTIVE_SHARE:
            name = "interactive"
        elif draw < INTERACTIVE_SHARE + BATCH_SHARE:
            name = "batch"
        else:
            name = ""
        request = GenerationRequest(
            model=MODEL,
            prompt=prompt(item.num_prompt_tokens, 100_000 * (number + 1) + place),
            max_tokens=item.num_output_tokens,
            min_tokens=item.num_output_tokens,
            ignore_eos=True,
            sampling=SamplingParams(seed=place),
            promise=classes.get(name, Promise()),
            api_key_id="" if name else f"key{place % BEST_EFFORT_KEYS}",
        )
        sent.append((item.at_s, request, name or "best_effort"))
    return sent


def _figures(done: Sequence[Observed], end_at_s: float) -> dict[str, float]:
    promised = [o for o in done if o.tag != "best_effort"]
    start_s = min(o.ended_s - o.e2e_s for o in done if not o.is_refused)
    window_s = end_at_s  # of arrivals: what is generated after it shows no throughput under load
    best_effort = sum(
        sum(start_s <= at_s <= start_s + window_s for at_s in o.token_times_s)
        for o in done
        if o.tag == "best_effort"
    )
    held = [o for o in promised if o.is_held]
    return {
        "attainment": len(held) / len(promised),
        "goodput_per_s": len(held) / window_s,
        "best_effort_tok_s": best_effort / window_s,
        "refused": sum(o.is_refused for o in promised) / len(promised),
        "interactive": _share(promised, "interactive"),
        "batch": _share(promised, "batch"),
        "ttft_p95_ms": 1e3 * _p95([o.ttft_s for o in promised if not o.is_refused]),
    }


def _share(done: Sequence[Observed], tag: str) -> float:
    mine = [o.is_held for o in done if o.tag == tag]
    return sum(mine) / len(mine)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


def _outcomes(rounds: dict[str, list[dict[str, float]]]) -> list[Outcome | Skipped]:
    row = "attainment, 90% load"

    def ratios(figure: str) -> tuple[float, ...]:
        return tuple(
            ours[figure] / max(1e-9, max(rounds[peer][n][figure] for peer in PEERS))
            for n, ours in enumerate(rounds["fmedge"])
        )

    goodput, best_effort = ratios("goodput_per_s"), ratios("best_effort_tok_s")
    detail = {"rounds": rounds}
    return [
        Outcome(row, "goodput against the best of round robin, least outstanding, power of two",
                statistics.median(goodput), "x", 1.3, True, goodput, detail),
        Outcome(row, "best-effort tokens/s against the best of them",
                statistics.median(best_effort), "x", 0.9, True, best_effort, detail),
    ]  # fmt: skip
