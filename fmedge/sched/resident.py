"""What can be resident in memory, what it is worth there, and what a swap costs, as values.

A resident's value is what it would cost to be without it: the requests expected while it loaded
again, times that time and their weight. Swaps are priced the same way, in weighted seconds of
waiting, so that what waits and what would be made to wait compare (rent or buy: Karlin et al.,
Competitive snoopy caching, 1988).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from fmedge.sched.cold import OpenWork

State = Literal["unloaded", "loading", "loaded", "unloading"]
REFUSED_S = 60.0
"""So long a request that was refused as its model was not loaded counts as one that waits."""


class Resident(Struct, frozen=True, kw_only=True):
    """One replica that can be loaded. bytes: by device, all that it takes there. load_s: from the
    start of its process until it serves, measured or expected."""

    replica: str
    model: str
    bytes: dict[str, int]
    load_s: float


class ModelRule(Struct, frozen=True, kw_only=True):
    """is_pinned: always loaded, never evicted. keep_alive_s: it is unloaded when nothing was asked
    of it for so long; 0: only when its memory is needed. is_leaving: it goes for good, as soon as
    nothing is open of it; until then it keeps its memory, and nothing more is loaded for it."""

    is_pinned: bool = False
    is_leaving: bool = False
    keep_alive_s: float = 0.0


class ResidencySettings(Struct, frozen=True, kw_only=True):
    """policy: "fifo" swaps for whatever waits longest, at once; there to compare with.

    min_resident_s: a model stays for so long, and `payback` times its load while it has work.
    max_wait_s: a request that waited for its model so long has its swap as soon as that allows,
    whatever the price. drain_s: what runs on a replica that is unloaded may take so long to
    finish. unload_s: what ending a process takes beside that. rate_s: time over which demand is
    averaged. backoff_s, max_backoff_s: between attempts to load what failed, doubling.
    """

    policy: Literal["value", "fifo"] = "value"
    min_resident_s: float = 2.0
    payback: float = 2.0
    max_wait_s: float = 30.0
    drain_s: float = 10.0
    unload_s: float = 0.3
    rate_s: float = 60.0
    backoff_s: float = 5.0
    max_backoff_s: float = 300.0


class Load(Struct, frozen=True):
    """Start this replica now: its memory is free."""

    replica: str
    model: str
    reason: str


class Unload(Struct, frozen=True):
    """Retire this replica: what it runs may finish for deadline_s."""

    replica: str
    model: str
    reason: str
    deadline_s: float


class Retry(Struct, frozen=True):
    """A model whose load failed may be asked for again."""

    model: str


class Hopeless(Struct, frozen=True):
    """A model that is wanted can never be loaded as things are planned."""

    model: str
    reason: str
    retry_after_s: float


Effect = Load | Unload | Retry | Hopeless


class ReplicaEntry:
    """A resident as it is now. since_s: in this state; retry_s: no load before."""

    __slots__ = (
        "is_planned",
        "load_s",
        "num_failures",
        "resident",
        "retry_s",
        "since_s",
        "state",
        "was_loaded",
        "was_tried",
        "why",
    )

    def __init__(self, resident: Resident, now_s: float) -> None:
        self.resident = resident
        self.state: State = "unloaded"
        self.since_s = now_s
        self.load_s = resident.load_s
        self.retry_s = -math.inf
        self.num_failures = 0
        self.is_planned = True
        self.was_loaded = False
        self.was_tried = False
        self.why = "nothing was asked of it yet"

    @property
    def name(self) -> str:
        return self.resident.replica

    @property
    def model(self) -> str:
        return self.resident.model

    def enter(self, now_s: float, state: State, why: str = "") -> None:
        self.state, self.since_s = state, now_s
        if why:
            self.why = why


class ModelEntry:
    """A model's demand. num_recent: arrivals, each fading over `rate_s`."""

    __slots__ = (
        "error",
        "is_commanded",
        "last_use_s",
        "name",
        "num_arrived",
        "num_recent",
        "rule",
        "seen_s",
        "work",
    )

    def __init__(self, name: str, rule: ModelRule, now_s: float) -> None:
        self.name = name
        self.rule = rule
        self.work = OpenWork()
        self.num_arrived = 0
        self.num_recent = 0.0
        self.seen_s = now_s
        self.last_use_s = -math.inf
        self.is_commanded = False  # somebody asked for it to be loaded
        self.error = ""

    def see(self, now_s: float, work: OpenWork, rate_s: float) -> None:
        self.num_recent *= math.exp(-(now_s - self.seen_s) / rate_s)
        self.num_recent += max(0, work.num_arrived - self.num_arrived)
        if work.waiting or work.num_running or work.num_arrived > self.num_arrived:
            self.last_use_s = now_s
        self.num_arrived, self.seen_s, self.work = work.num_arrived, now_s, work

    @property
    def is_open(self) -> bool:
        return bool(self.work.waiting or self.work.num_running)

    def open_weight(self) -> float:
        return self.work.running_weight + sum(weight for _, weight in self.work.waiting)

    def waits(self, now_s: float) -> list[tuple[float, float]]:
        """(arrived_s, weight) of what waits, and of what was refused lately for want of it."""
        refused = (entry for entry in self.work.refused if now_s - entry[0] < REFUSED_S)
        return [*self.work.waiting, *refused]

    def rate_per_s(self, now_s: float, rate_s: float) -> float:
        """Of arrivals to expect; a pause says that the rate has fallen."""
        idle_s = now_s - self.last_use_s
        return min(self.num_recent / rate_s, 1.0 / idle_s if idle_s > 0 else math.inf)


def waiting_cost(waits: Iterable[tuple[float, float]], now_s: float, since_s: float) -> float:
    """Weighted seconds waited since then."""
    return sum(weight * max(0.0, now_s - max(arrived_s, since_s)) for arrived_s, weight in waits)


def value_per_byte(
    entry: ReplicaEntry,
    model: ModelEntry,
    num_loaded: int,
    devices: Iterable[str],
    now_s: float,
    settings: ResidencySettings,
) -> float:
    """Of keeping it: weighted seconds of waiting that it saves a second, for each byte that it
    has on these devices. A model's replicas share its worth."""
    expected = model.rate_per_s(now_s, settings.rate_s) * entry.load_s + model.open_weight()
    num_bytes = sum(entry.resident.bytes.get(device, 0) for device in devices)
    return expected * entry.load_s / max(1, num_loaded) / max(1, num_bytes)


def swap_price(
    entry: ReplicaEntry,
    model: ModelEntry,
    num_loaded: int,
    load_s: float,
    now_s: float,
    settings: ResidencySettings,
) -> float:
    """Weighted seconds by which unloading it, loading something else in load_s and coming back
    delays what its model has and expects."""
    if num_loaded > 1:
        return entry.load_s * model.open_weight() / num_loaded
    away_s = settings.unload_s + load_s + entry.load_s
    expected = model.rate_per_s(now_s, settings.rate_s) * away_s / 2
    return away_s * (model.open_weight() + expected)


def lacking(needed: Mapping[str, int], free: Mapping[str, int]) -> dict[str, int]:
    """Bytes by device that are not free."""
    short = {device: size - free.get(device, 0) for device, size in needed.items() if size > 0}
    return {device: size for device, size in short.items() if size > 0}


def choose_victims(
    short: Mapping[str, int], candidates: Sequence[ReplicaEntry]
) -> list[ReplicaEntry] | None:
    """Whom to unload so that nothing is short: candidates in order, least valuable first, without
    those that turn out not to be needed. None if all together do not free enough."""
    left = dict(short)
    chosen: list[ReplicaEntry] = []
    for entry in candidates:
        if not left:
            break
        if any(entry.resident.bytes.get(device, 0) for device in left):
            chosen.append(entry)
            left = lacking(left, entry.resident.bytes)
    if left:
        return None
    for entry in reversed(chosen[:-1]):
        others = [other for other in chosen if other is not entry]
        freed = {
            device: sum(other.resident.bytes.get(device, 0) for other in others) for device in short
        }
        if not lacking(short, freed):
            chosen = others
    return chosen
