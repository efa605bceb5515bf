"""What a run amounts to: promises kept, goodput, latencies and how busy the replicas were.

The rule: whatever arrived counts, and what came to no end has kept no promise. Only what was never
asked, because the run was ended before it was due, is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf

import numpy as np
from msgspec import Struct

from fmedge.sim.outcome import Row, Status, has_promise, is_held
from fmedge.sim.workload import Call, Workload


class Spread(Struct, frozen=True, kw_only=True):
    """Of one measure, in seconds; percentiles by linear interpolation between closest ranks."""

    count: int
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float


class Latencies(Struct, frozen=True, kw_only=True):
    """Of answered calls; None where there were none. tpot: of those with two tokens or more."""

    ttft: Spread | None
    tpot: Spread | None
    e2e: Spread | None


class ClassSummary(Struct, frozen=True, kw_only=True):
    """The calls of one class; "" is those that name none. attainment: None where no call has a
    promise of its own."""

    num_calls: int
    num_ok: int
    num_promised: int
    num_held: int
    attainment: float | None
    latencies: Latencies


class WorkflowSummary(Struct, frozen=True, kw_only=True):
    """The instances of one workflow. num_ok: those of which every call was answered; num_held:
    those of them within the workflow's e2e promise, all of them where it has none. e2e: from the
    arrival of an answered instance's first call to the end of its last, tool time included."""

    num_instances: int
    num_ok: int
    num_held: int
    is_promised: bool
    attainment: float
    e2e: Spread | None


class Summary(Struct, frozen=True, kw_only=True):
    """A run's figures.

    counts: calls by status; those of "unsent" include what was not due before the run was ended,
    which nothing else counts. num_promises, num_held: a promise is a call's own or that of an
    instance of a workflow. attainment: their quotient; None where nothing is promised.
    arrival_s: over which calls arrived by themselves; duration_s: until the last end.
    goodput_per_s: promises that held over arrival_s; of answered calls where nothing is promised.
    Throughputs count answered calls over duration_s. utilisation: of each replica, the share of its
    time in which steps ran. replica_s: for how long replicas were held, all together.
    """

    num_calls: int
    counts: dict[Status, int]
    num_promises: int
    num_held: int
    attainment: float | None
    arrival_s: float
    duration_s: float
    goodput_per_s: float
    calls_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    num_cached: int
    latencies: Latencies
    classes: dict[str, ClassSummary]
    workflows: dict[str, WorkflowSummary]
    utilisation: dict[str, float] = {}
    replica_s: float | None = None


def summarise(
    workload: Workload,
    rows: Iterable[Row],
    *,
    busy_s: Mapping[str, float] | None = None,
    replica_s: Mapping[str, float] | None = None,
    window: tuple[float, float] | None = None,
) -> Summary:
    """Sums up a run.

    rows: at most one of a call, in any order; a call without one was not sent. busy_s: by replica,
    while steps ran. replica_s: by replica, for how long it was held; None: all for the whole run.
    window: arrivals in seconds from the start, first to (not including) last, outside of which
    calls do not count, as at the start and the end of a long run; a call that waits for others
    goes with the first of them. busy_s and replica_s are those of the whole run nevertheless.
    """
    due_s = due_times(workload.calls)
    by_call = {row.call: row for row in rows}
    start_s, end_s = window or (0.0, inf)
    counted = counted_calls(workload, by_call, window)
    pairs = [(workload.calls[n], by_call.get(n) or _never(n)) for n in counted]
    whole_s = max((row.at_s + row.e2e_s for row in by_call.values() if row.status == "ok"),
                  default=0.0)  # fmt: skip
    ends_s = [row.at_s + row.e2e_s for _, row in pairs if row.status == "ok"]
    duration_s = max(ends_s, default=start_s) - start_s
    last_s = max((due_s[n] for n in counted), default=start_s) if end_s == inf else end_s
    arrival_s = last_s - start_s or duration_s
    good = [row for _, row in pairs if row.status == "ok"]
    workflows = _workflows(workload, pairs)
    own = [is_held(call, row) for call, row in pairs if has_promise(call)]
    tasks = [summary for summary in workflows.values() if summary.is_promised]
    num_promises = len(own) + sum(summary.num_instances for summary in tasks)
    num_held = sum(own) + sum(summary.num_held for summary in tasks)
    statuses: Counter[Status] = Counter(row.status for _, row in pairs)
    statuses["unsent"] += len(workload.calls) - len(_asked(workload.calls, by_call))
    per_s = 1 / duration_s if duration_s > 0 else 0.0
    return Summary(
        num_calls=len(pairs),
        counts={status: count for status, count in statuses.items() if count},
        num_promises=num_promises,
        num_held=num_held,
        attainment=num_held / num_promises if num_promises else None,
        arrival_s=arrival_s,
        duration_s=duration_s,
        goodput_per_s=(num_held if num_promises else len(good)) / arrival_s if arrival_s else 0.0,
        calls_per_s=len(good) * per_s,
        prompt_tokens_per_s=per_s * sum(c.num_prompt for c, row in pairs if row.status == "ok"),
        output_tokens_per_s=per_s * sum(row.num_tokens for row in good),
        num_cached=sum(row.num_cached for row in good),
        latencies=_latencies(good),
        classes=_classes(pairs),
        workflows=workflows,
        utilisation=_utilisation(busy_s or {}, replica_s or {}, whole_s),
        replica_s=_replica_s(busy_s, replica_s, whole_s),
    )


def counted_calls(
    workload: Workload, by_call: Mapping[int, Row], window: tuple[float, float] | None = None
) -> list[int]:
    """The places of the calls that count, in their order. by_call: what became of them."""
    asked = _asked(workload.calls, by_call)
    if window is None:
        return asked
    due_s = due_times(workload.calls)
    return [n for n in asked if window[0] <= due_s[n] < window[1]]


def held_instances(
    workload: Workload, by_call: Mapping[int, Row], counted: Iterable[int]
) -> list[tuple[int, bool]]:
    """Of each instance of a workflow that promises something: the place of its first call, and
    whether the promise held."""
    instances: dict[tuple[str, str], list[int]] = {}
    for n in counted:
        call = workload.calls[n]
        settings = workload.workflows.get(call.workflow)
        if settings is not None and settings.e2e_s < inf:
            instances.setdefault((call.workflow, call.instance), []).append(n)
    found = []
    for (name, _), places in instances.items():
        took_s = _took_s([by_call.get(n) or _never(n) for n in places])
        found.append((places[0], took_s <= workload.workflows[name].e2e_s))
    return found


def _took_s(rows: Sequence[Row]) -> float:
    """An instance's end to end, from its first call's arrival; inf where a call has no answer."""
    if any(row.status != "ok" for row in rows):
        return inf
    return max(row.at_s + row.e2e_s for row in rows) - min(row.at_s for row in rows)


def due_times(calls: Sequence[Call]) -> list[float]:
    """Of each call, when the last of those that it waits for, and they for, was due by itself."""
    due_s: list[float] = []
    for call in calls:
        due_s.append(max(due_s[n] for n in call.after) if call.after else call.at_s)
    return due_s


def spread(values_s: Sequence[float]) -> Spread | None:
    """None for no values."""
    if not values_s:
        return None
    values = np.asarray(values_s, dtype=np.float64)
    p50_s, p90_s, p99_s = np.percentile(values, (50, 90, 99)).tolist()
    return Spread(
        count=len(values), mean_s=float(values.mean()), p50_s=p50_s, p90_s=p90_s, p99_s=p99_s
    )


def _never(call: int) -> Row:
    return Row(call=call, at_s=float("nan"), status="unsent")


def _asked(calls: Sequence[Call], by_call: Mapping[int, Row]) -> list[int]:
    """Those that were due before the run was ended, or wait for such."""
    is_asked: list[bool] = []
    for n, call in enumerate(calls):
        if call.after:
            is_asked.append(all(is_asked[other] for other in call.after))
        else:
            is_asked.append(n in by_call and by_call[n].status != "unsent")
    return [n for n, asked in enumerate(is_asked) if asked]


def _latencies(good: Sequence[Row]) -> Latencies:
    return Latencies(
        ttft=spread([row.ttft_s for row in good]),
        tpot=spread([row.tpot_s for row in good if row.num_tokens > 1]),
        e2e=spread([row.e2e_s for row in good]),
    )


def _classes(pairs: Sequence[tuple[Call, Row]]) -> dict[str, ClassSummary]:
    by_class: dict[str, list[tuple[Call, Row]]] = {}
    for call, row in pairs:
        by_class.setdefault(call.promise.sla_class, []).append((call, row))
    return {name: _class(by_class[name]) for name in sorted(by_class)}


def _class(pairs: Sequence[tuple[Call, Row]]) -> ClassSummary:
    good = [row for _, row in pairs if row.status == "ok"]
    held = [is_held(call, row) for call, row in pairs if has_promise(call)]
    return ClassSummary(
        num_calls=len(pairs),
        num_ok=len(good),
        num_promised=len(held),
        num_held=sum(held),
        attainment=sum(held) / len(held) if held else None,
        latencies=_latencies(good),
    )


def _workflows(workload: Workload, pairs: Sequence[tuple[Call, Row]]) -> dict[str, WorkflowSummary]:
    instances: dict[str, dict[str, list[Row]]] = {}
    for call, row in pairs:
        if call.workflow:
            instances.setdefault(call.workflow, {}).setdefault(call.instance, []).append(row)
    return {name: _workflow(workload, name, instances[name]) for name in sorted(instances)}


def _workflow(
    workload: Workload, name: str, instances: Mapping[str, Sequence[Row]]
) -> WorkflowSummary:
    settings = workload.workflows.get(name)
    limit_s = settings.e2e_s if settings is not None else inf
    took_s = [value for rows in instances.values() if (value := _took_s(rows)) < inf]
    num_held = sum(value <= limit_s for value in took_s)
    return WorkflowSummary(
        num_instances=len(instances),
        num_ok=len(took_s),
        num_held=num_held,
        is_promised=limit_s < inf,
        attainment=num_held / len(instances),
        e2e=spread(took_s),
    )


def _utilisation(
    busy_s: Mapping[str, float], replica_s: Mapping[str, float], whole_s: float
) -> dict[str, float]:
    found = {}
    for name in sorted(busy_s):
        held_s = replica_s.get(name, whole_s)
        found[name] = min(1.0, busy_s[name] / held_s) if held_s > 0 else 0.0
    return found


def _replica_s(
    busy_s: Mapping[str, float] | None, replica_s: Mapping[str, float] | None, whole_s: float
) -> float | None:
    if replica_s is not None:
        return sum(replica_s.values())
    return None if busy_s is None else len(busy_s) * whole_s
