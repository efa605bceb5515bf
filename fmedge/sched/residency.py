"""Which models are in memory while there are more than it holds: demand in, loads and unloads out.

A resident model's queue is served until what waits for another has waited longer, in weighted
seconds, than the swap would make the resident's requests wait; so requests are grouped and a swap
pays. A request that waited max_wait_s has its swap whatever that costs, as soon as the resident has
earned its load: nothing starves. What is started fits into memory that is free, not into memory
that is about to be. Pure: times are any one clock's seconds, and whoever carries effects out says
what came of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fmedge.sched.cold import OpenWork
from fmedge.sched.resident import (
    Effect,
    Hopeless,
    Load,
    ModelEntry,
    ModelRule,
    ReplicaEntry,
    ResidencySettings,
    Resident,
    Retry,
    State,
    Unload,
    choose_victims,
    lacking,
    swap_price,
    value_per_byte,
    waiting_cost,
)

LOAD_WEIGHT = 0.5
"""Of the latest load's time in what the next is expected to take."""

GIB = 1 << 30


class ResidentStatus(Struct, frozen=True, kw_only=True):
    """A replica, for people. since_s: how long it has been in this state."""

    replica: str
    state: State
    why: str
    since_s: float
    load_s: float


class ResidencyStatus(Struct, frozen=True, kw_only=True):
    """A model, for people. idle_s: since its last use, None before the first; keep_alive_left_s:
    until it is unloaded, None if idleness alone does not unload it. error: of its last load."""

    model: str
    state: Literal["unloaded", "loading", "loaded", "unloading", "failed"]
    why: str
    is_pinned: bool
    idle_s: float | None
    keep_alive_left_s: float | None
    rate_per_s: float
    error: str
    replicas: list[ResidentStatus]


class Residency:
    """Of one server. capacity: bytes by device that residents may take together."""

    def __init__(
        self, capacity: Mapping[str, int], settings: ResidencySettings | None = None
    ) -> None:
        self._capacity = dict(capacity)
        self._settings = settings or ResidencySettings()
        self._entries: dict[str, ReplicaEntry] = {}
        self._models: dict[str, ModelEntry] = {}
        self._claims: list[str] = []  # models that others are making room for, first come

    # --- what there is ---

    def set_residents(
        self,
        now_s: float,
        residents: Sequence[Resident],
        rules: Mapping[str, ModelRule],
        capacity: Mapping[str, int] | None = None,
    ) -> None:
        """What may be loaded from now on; what is loaded and not among it will be unloaded when
        what takes over from it serves, or before if memory has not room for both. A replica of the
        same name is the same."""
        if capacity is not None:
            self._capacity = dict(capacity)
        for name in dict.fromkeys((*(resident.model for resident in residents), *rules)):
            model = self._models.setdefault(name, ModelEntry(name, ModelRule(), now_s))
            model.rule = rules.get(name, ModelRule())
            if model.error:  # other plans, other luck: it may be tried at once
                for entry in self._of(name):
                    entry.retry_s = now_s
        for entry in self._entries.values():
            entry.is_planned = False
        for resident in residents:
            entry = self._entries.setdefault(resident.replica, ReplicaEntry(resident, now_s))
            entry.is_planned = True
            if entry.state == "unloaded":
                entry.resident = resident
                entry.load_s = entry.load_s if entry.was_loaded else resident.load_s
        self._forget_unplanned()

    def set_least_time(self, min_resident_s: float) -> None:
        """Another one than the settings' from now on."""
        self._settings = replace(self._settings, min_resident_s=min_resident_s)

    def see(self, now_s: float, works: Mapping[str, OpenWork]) -> None:
        """What is wanted of each model now."""
        for name, work in works.items():
            if name in self._models:
                self._models[name].see(now_s, work, self._settings.rate_s)

    def command_load(self, model: str) -> None:
        """Somebody wants it loaded, whatever has to go (but for what is pinned). KeyError."""
        self._models[model].is_commanded = True
        self._models[model].error = ""
        for entry in self._of(model):
            entry.retry_s = -math.inf

    def command_unload(self, now_s: float, model: str) -> list[Effect]:
        """Somebody wants it unloaded; the next request for it loads it again. KeyError."""
        self._models[model].is_commanded = False
        return [
            self._unload(now_s, entry, "it was asked to be unloaded")
            for entry in self._of(model, "loaded", "loading")
        ]

    # --- what came of effects ---

    def on_loaded(self, now_s: float, replica: str, load_s: float) -> None:
        """It serves. load_s: what that took, whatever was waited for before."""
        entry = self._entries[replica]
        model = self._models[entry.model]
        if entry.state != "loading":
            return  # it was told to end meanwhile
        entry.enter(now_s, "loaded")
        weight = LOAD_WEIGHT if entry.was_loaded else 1.0
        entry.load_s += weight * (load_s - entry.load_s)
        entry.was_loaded = True
        entry.num_failures = 0
        model.error, model.is_commanded = "", False
        if entry.model in self._claims:
            self._claims.remove(entry.model)

    def on_unloaded(self, now_s: float, replica: str) -> None:
        """Its process has ended."""
        entry = self._entries.get(replica)
        if entry is not None:
            entry.enter(now_s, "unloaded")
            self._forget_unplanned()

    def on_replanned(self, now_s: float, replica: str, resident: Resident) -> None:
        """It could not be loaded as it was planned, and is to be loaded otherwise."""
        entry = self._entries[replica]
        entry.enter(now_s, "unloaded", "it is planned anew, as it failed to load")
        entry.resident = resident
        entry.was_tried = False

    def on_failed(self, now_s: float, replica: str, reason: str) -> float:
        """It could not be loaded, or its process ended and will not come back. How many seconds
        no other attempt is made."""
        entry = self._entries.get(replica)
        if entry is None:
            return 0.0
        settings = self._settings
        entry.num_failures += 1
        wait_s = min(settings.max_backoff_s, settings.backoff_s * 2.0 ** (entry.num_failures - 1))
        entry.enter(now_s, "unloaded", f"it failed: {reason}")
        entry.retry_s = now_s + wait_s
        model = self._models[entry.model]
        if not self._of(entry.model, "loaded", "loading"):
            model.error = reason
            model.is_commanded = False
            if entry.model in self._claims:
                self._claims.remove(entry.model)
        self._forget_unplanned()
        return wait_s

    # --- what to do ---

    def decide(self, now_s: float) -> list[Effect]:
        """What to do now. Ask again whenever demand or a state changed, and as time passes."""
        effects: list[Effect] = list(self._replace(now_s))
        for model in self._models.values():
            effects.extend(self._expire(now_s, model))
        wanting = self._wanting(now_s)
        self._claims = [name for name in self._claims if any(m.name == name for m in wanting)]
        reserved = dict[str, int]()
        for model in wanting:
            reason = self._why_never(model)
            if reason:
                effects.append(self._give_up(now_s, model, reason))
            else:
                effects.extend(self._bring(now_s, model, reserved))
        if not reserved:
            effects.extend(self._fill(now_s))
        return effects

    def expected_s(self, now_s: float, model: str) -> float:
        """Until a model that is not loaded can serve if it is wanted from now on: loading it, and
        before that whatever keeps the memory that it needs."""
        entries = [e for e in self._of(model) if e.is_planned]
        if not entries:
            return math.inf
        load_s = min(entry.load_s for entry in entries)
        if any(not lacking(entry.resident.bytes, self._free()) for entry in entries):
            return load_s
        held_s = [
            self._stays_s(now_s, entry)
            for entry in self._entries.values()
            if entry.state == "loaded" and not self._stays(entry.model)
        ]
        return load_s + self._settings.unload_s + min(held_s, default=0.0)

    def load_s(self, replica: str) -> float:
        """What loading it is expected to take. KeyError."""
        return self._entries[replica].load_s

    def state(self, replica: str) -> State | None:
        """None for one that is neither planned nor in memory."""
        entry = self._entries.get(replica)
        return None if entry is None else entry.state

    @property
    def is_settled(self) -> bool:
        """Nothing is being loaded or unloaded."""
        return all(entry.state in ("loaded", "unloaded") for entry in self._entries.values())

    def status(self, now_s: float) -> list[ResidencyStatus]:
        """Every model's."""
        return [self._status(now_s, model) for model in self._models.values()]

    # --- rules ---

    def _replace(self, now_s: float) -> Iterable[Effect]:
        """What is no longer planned goes: after what is planned instead serves, where memory
        allows both."""
        for entry in [e for e in self._entries.values() if not e.is_planned]:
            if entry.state not in ("loaded", "loading"):
                continue
            model = self._models[entry.model]
            if model.rule.is_leaving and model.is_open:
                continue
            heirs = [heir for heir in self._of(entry.model) if heir.is_planned]
            if entry.state == "loaded" and not any(heir.state == "loaded" for heir in heirs):
                if any(heir.state == "loading" for heir in heirs):
                    continue
                heirs = [heir for heir in heirs if heir.state == "unloaded"]
                if heirs and all(heir.retry_s > now_s for heir in heirs):
                    continue  # it failed to load: what there is goes on
                free = self._free()
                fitting = [heir for heir in heirs if not lacking(heir.resident.bytes, free)]
                if fitting:
                    yield self._load(now_s, fitting[0], f"it takes over from {entry.name}")
                    continue
            yield self._unload(now_s, entry, "it is no longer planned")

    def _expire(self, now_s: float, model: ModelEntry) -> Iterable[Effect]:
        entries = self._of(model.name)
        if model.error and all(entry.retry_s <= now_s for entry in entries):
            model.error = ""
            yield Retry(model.name)
        left_s = self._keep_alive_left_s(now_s, model)
        if left_s is not None and left_s <= 0:
            for entry in self._of(model.name, "loaded"):
                limit_s = model.rule.keep_alive_s
                yield self._unload(now_s, entry, f"nothing was asked of it for {limit_s:.0f} s")

    def _wanting(self, now_s: float) -> list[ModelEntry]:
        """Models without a replica that somebody wants, who comes first first."""
        found = []
        for model in self._models.values():
            is_wanted = model.is_commanded or model.rule.is_pinned or bool(model.waits(now_s))
            if model.rule.is_leaving:
                continue
            if is_wanted and not model.error and not self._of(model.name, "loaded", "loading"):
                found.append(model)

        def rank(model: ModelEntry) -> tuple[float, ...]:
            waits = model.waits(now_s)
            oldest_s = min((arrived_s for arrived_s, _ in waits), default=math.inf)
            claim = self._claims.index(model.name) if model.name in self._claims else math.inf
            is_first = model.is_commanded or model.rule.is_pinned
            if self._settings.policy == "fifo" or now_s - oldest_s >= self._settings.max_wait_s:
                return (not is_first, claim, 0, oldest_s)
            load_s = min((e.load_s for e in self._of(model.name)), default=1.0)
            cost = waiting_cost(waits, now_s, -math.inf)
            return (not is_first, claim, 1, -cost / max(load_s, 1e-3))

        return sorted(found, key=rank)

    def _bring(self, now_s: float, model: ModelEntry, reserved: dict[str, int]) -> Iterable[Effect]:
        """Load a model, or make room for it. reserved: bytes by device of those before it, which
        wait for room; it is added to these."""
        entries = [
            entry
            for entry in self._of(model.name, "unloaded")
            if entry.is_planned and entry.retry_s <= now_s
        ]
        free = _minus(self._free(), reserved)
        for entry in entries:
            if not lacking(entry.resident.bytes, free):
                yield self._load(now_s, entry, self._reason(now_s, model))
                return
        coming = _minus(self._free(with_unloading=True), reserved)
        for entry in entries:
            if not lacking(entry.resident.bytes, coming):
                _add(reserved, entry.resident.bytes)  # it waits for processes to end
                return
        for entry in entries:
            victims = self._victims(now_s, model, entry, lacking(entry.resident.bytes, coming))
            if victims:
                if model.name not in self._claims:
                    self._claims.append(model.name)
                _add(reserved, entry.resident.bytes)
                for victim in victims:
                    yield self._unload(now_s, victim, f"its memory is needed for {model.name}")
                return

    def _why_never(self, model: ModelEntry) -> str:
        """Why no replica of a model can be loaded, whatever else is unloaded; "" if one can."""
        entries = [entry for entry in self._of(model.name) if entry.is_planned]
        if not entries:
            return "no placement is planned for it"
        free = dict(self._capacity)
        for other in self._entries.values():
            if self._models[other.model].rule.is_pinned and other.state != "unloaded":
                free = _minus(free, other.resident.bytes)
        shorts = [lacking(entry.resident.bytes, free) for entry in entries]
        if not all(shorts):
            return ""
        return f"{_gib(shorts[0])} are missing, even with all unloaded that is not pinned"

    def _give_up(self, now_s: float, model: ModelEntry, reason: str) -> Hopeless:
        model.error, model.is_commanded = reason, False
        for entry in self._of(model.name):
            entry.retry_s = now_s + self._settings.max_backoff_s
        return Hopeless(model.name, reason, self._settings.max_backoff_s)

    def _victims(
        self, now_s: float, model: ModelEntry, entry: ReplicaEntry, short: Mapping[str, int]
    ) -> list[ReplicaEntry]:
        """Whom to unload for a model now; none while that does not pay, or cannot be."""
        settings, num_loaded = self._settings, self._num_loaded()
        by_value = sorted(
            (
                other
                for other in self._entries.values()
                if other.state == "loaded" and not self._stays(other.model)
            ),
            key=lambda e: (
                value_per_byte(
                    e, self._models[e.model], num_loaded[e.model], short, now_s, settings
                ),
                e.name,
            ),
        )
        if model.is_commanded or model.rule.is_pinned:
            return choose_victims(short, by_value) or []
        waits = model.waits(now_s)
        oldest_s = min(arrived_s for arrived_s, _ in waits)
        if settings.policy == "fifo":
            return (
                choose_victims(
                    short, [e for e in by_value if oldest_s < _oldest(self._models[e.model])]
                )
                or []
            )
        ripe = [other for other in by_value if self._stays_s(now_s, other) <= 0]
        victims = choose_victims(short, ripe) or []
        if now_s - oldest_s >= settings.max_wait_s:
            return victims
        price = sum(
            swap_price(v, self._models[v.model], num_loaded[v.model], entry.load_s, now_s, settings)
            for v in victims
        )
        since_s = max((victim.since_s for victim in victims), default=now_s)
        return victims if waiting_cost(waits, now_s, since_s) >= price else []

    def _fill(self, now_s: float) -> Iterable[Effect]:
        """Free memory serves nobody: what was never loaded, and more of what has a queue."""
        free = self._free()
        for entry in self._entries.values():
            model = self._models[entry.model]
            if entry.state != "unloaded" or not entry.is_planned or entry.retry_s > now_s:
                continue
            if model.error or lacking(entry.resident.bytes, free):
                continue
            has_queue = bool(model.work.waiting) and now_s - entry.since_s > entry.load_s
            if has_queue or not entry.was_tried:
                free = _minus(free, entry.resident.bytes)
                why = "requests wait" if has_queue else "it fits beside the others"
                yield self._load(now_s, entry, why)

    def _stays(self, model: str) -> bool:
        """No other is given its memory."""
        rule = self._models[model].rule
        return rule.is_pinned or rule.is_leaving

    def _stays_s(self, now_s: float, entry: ReplicaEntry) -> float:
        """How long it may not be evicted yet."""
        settings = self._settings
        least_s = settings.min_resident_s
        if self._models[entry.model].is_open:
            least_s = max(least_s, settings.payback * entry.load_s)
        return max(0.0, entry.since_s + least_s - now_s)

    def _keep_alive_left_s(self, now_s: float, model: ModelEntry) -> float | None:
        limit_s = model.rule.keep_alive_s
        loaded = self._of(model.name, "loaded")
        if not limit_s or model.rule.is_pinned or not loaded:
            return None
        if model.is_open:
            return limit_s
        used_s = max(model.last_use_s, *(entry.since_s for entry in loaded))
        return used_s + limit_s - now_s

    def _reason(self, now_s: float, model: ModelEntry) -> str:
        waits = model.waits(now_s)
        if model.is_commanded:
            return "it was asked to be loaded"
        if not waits:
            return "it is pinned"
        oldest_s = now_s - min(arrived_s for arrived_s, _ in waits)
        what = "request waits" if len(waits) == 1 else "requests wait"
        return f"{len(waits)} {what} for it, the first for {oldest_s:.1f} s"

    def _load(self, now_s: float, entry: ReplicaEntry, why: str) -> Load:
        entry.was_tried = True
        entry.enter(now_s, "loading", why)
        return Load(entry.name, entry.model, why)

    def _unload(self, now_s: float, entry: ReplicaEntry, why: str) -> Unload:
        entry.enter(now_s, "unloading", why)
        return Unload(entry.name, entry.model, why, self._settings.drain_s)

    def _of(self, model: str, *states: State) -> list[ReplicaEntry]:
        return [
            entry
            for entry in self._entries.values()
            if entry.model == model and (not states or entry.state in states)
        ]

    def _num_loaded(self) -> dict[str, int]:
        return {name: len(self._of(name, "loaded")) for name in self._models}

    def _free(self, *, with_unloading: bool = False) -> dict[str, int]:
        free = dict(self._capacity)
        for entry in self._entries.values():
            is_held = entry.state in ("loaded", "loading")
            if is_held or (entry.state == "unloading" and not with_unloading):
                free = _minus(free, entry.resident.bytes)
        return free

    def _forget_unplanned(self) -> None:
        gone = [
            name
            for name, entry in self._entries.items()
            if not entry.is_planned and entry.state == "unloaded"
        ]
        for name in gone:
            del self._entries[name]
        for name in [name for name, model in self._models.items() if model.rule.is_leaving]:
            if not self._of(name):
                del self._models[name]

    def _status(self, now_s: float, model: ModelEntry) -> ResidencyStatus:
        entries = self._of(model.name)
        by_rank: tuple[State, ...] = ("loaded", "loading", "unloading", "unloaded")
        first = min(entries, key=lambda e: by_rank.index(e.state), default=None)
        state: State = "unloaded" if first is None else first.state
        why = "" if first is None else first.why
        if state == "unloaded" and model.waits(now_s):
            why = f"{self._reason(now_s, model)}; {self._obstacle(now_s, entries)}"
        idle_s = now_s - model.last_use_s
        return ResidencyStatus(
            model=model.name,
            state="failed" if model.error and state == "unloaded" else state,
            why=why,
            is_pinned=model.rule.is_pinned,
            idle_s=idle_s if math.isfinite(idle_s) else None,
            keep_alive_left_s=self._keep_alive_left_s(now_s, model),
            rate_per_s=model.rate_per_s(now_s, self._settings.rate_s),
            error=model.error,
            replicas=[
                ResidentStatus(
                    replica=entry.name,
                    state=entry.state,
                    why=entry.why,
                    since_s=now_s - entry.since_s,
                    load_s=entry.load_s,
                )
                for entry in entries
            ],
        )

    def _obstacle(self, now_s: float, entries: Sequence[ReplicaEntry]) -> str:
        """What a model that is wanted waits for."""
        if not entries:
            return "nothing is planned for it"
        short = lacking(entries[0].resident.bytes, self._free())
        if not short:
            return "it is about to be loaded"
        holders = dict.fromkeys(
            other.model
            for other in self._entries.values()
            if other.state != "unloaded" and any(other.resident.bytes.get(name) for name in short)
        )
        return f"{_gib(short)} more must become free, where {' and '.join(holders)} is"


def _oldest(model: ModelEntry) -> float:
    return min((arrived_s for arrived_s, _ in model.work.waiting), default=math.inf)


def _gib(sizes: Mapping[str, int]) -> str:
    return " and ".join(f"{size / GIB:.2f} GiB on {name}" for name, size in sizes.items())


def _minus(free: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int]:
    return {device: size - taken.get(device, 0) for device, size in free.items()}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for device, size in more.items():
        total[device] = total.get(device, 0) + size
