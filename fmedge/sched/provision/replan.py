"""When to plan anew, and what stays as it is when that is done.

The rule: a plan is left alone unless something is really different: a device came or went,
promises are being missed, or demand is no longer what was planned for. Each of these has to last,
and the planner keeps what is there unless another plan gains enough to pay for the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from fmedge.sched.provision.plan import Plan, PlannedReplica


class ReplanSettings(Struct, frozen=True, kw_only=True):
    """cooldown_s: the least time between two plans, but where a device is lost. device_back_s: a
    device must have been there so long to be counted on again. min_judged: promises that must
    have come due before their misses count; miss_margin: misses beyond what the target allows, as
    a share. min_requests: so many say what demand is; demand_factor: how many times more or less
    the rate is than it was planned for. lasting_s: how long any of these has to go on.
    """

    cooldown_s: float = 60.0
    device_back_s: float = 15.0
    min_judged: int = 20
    miss_margin: float = 0.05
    min_requests: int = 10
    demand_factor: float = 2.0
    lasting_s: float = 15.0


class ModelSignal(Struct, frozen=True, kw_only=True):
    """What a model was asked for lately: so many requests, that many a second, promises that came
    due (judged) and those of them that were broken or refused, and the share that shall hold."""

    model: str
    rate_per_s: float
    num_requests: int = 0
    num_judged: int = 0
    num_missed: int = 0
    target: float = 0.9


class Replanner:
    """Watches signals between plans. Times are seconds of one monotonic clock."""

    def __init__(self, settings: ReplanSettings | None = None) -> None:
        self.settings = settings or ReplanSettings()
        self._planned_at_s = 0.0
        self._rates: dict[str, float] = {}
        self._devices: frozenset[str] = frozenset()
        self._since_s: dict[str, float] = {}

    @property
    def devices(self) -> frozenset[str]:
        """Those that the plan in force may use."""
        return self._devices

    def planned(
        self, now_s: float, rates_per_s: Mapping[str, float], devices: Iterable[str]
    ) -> None:
        """A plan for these rates on these devices is in force, or was found not worth its change:
        either way what it was made for is the new normal. A rate of 0 is not known."""
        self._planned_at_s = now_s
        self._rates = dict(rates_per_s)
        self._devices = frozenset(devices)
        self._since_s.clear()

    def review(self, now_s: float, models: Sequence[ModelSignal], devices: Iterable[str]) -> str:
        """Why to plan anew now, as a sentence; "" to leave things alone."""
        present = frozenset(devices)
        lost = self._devices - present
        if lost:
            return f"{_names(lost)} {'is' if len(lost) == 1 else 'are'} gone"
        reasons: dict[str, tuple[float, str]] = {}
        back = present - self._devices
        if back:
            what = f"{_names(back)} can be used"
            reasons["devices " + ",".join(sorted(back))] = (self.settings.device_back_s, what)
        for signal in models:
            for key, reason in self._of_model(signal):
                reasons[key] = (self.settings.lasting_s, reason)
        self._since_s = {key: self._since_s.get(key, now_s) for key in reasons}
        if now_s - self._planned_at_s < self.settings.cooldown_s:
            return ""
        lasting = (
            reason
            for key, (needed_s, reason) in reasons.items()
            if now_s - self._since_s[key] >= needed_s
        )
        return next(lasting, "")

    def _of_model(self, signal: ModelSignal) -> Iterable[tuple[str, str]]:
        settings = self.settings
        if signal.num_judged >= settings.min_judged:
            missed = signal.num_missed / signal.num_judged
            if missed > 1 - signal.target + settings.miss_margin:
                yield (
                    f"misses {signal.model}",
                    f"{signal.model} misses {missed:.0%} of its promises, and {signal.target:.0%} "
                    "shall hold",
                )
        planned, rate = self._rates.get(signal.model, 0.0), signal.rate_per_s
        if planned <= 0:
            if signal.num_requests >= settings.min_requests:
                yield (
                    f"known {signal.model}",
                    f"{signal.model} is asked {rate:.2g} times a second, which nothing was known "
                    "of",
                )
        elif rate > planned * settings.demand_factor:
            yield (
                f"more {signal.model}",
                f"{signal.model} is asked {rate:.2g} times a second, and {planned:.2g} were "
                "planned for",
            )
        elif rate < planned / settings.demand_factor:
            yield (
                f"less {signal.model}",
                f"{signal.model} is asked only {rate:.2g} times a second, and {planned:.2g} were "
                "planned for",
            )


def renamed(running: Sequence[PlannedReplica], wanted: Plan, ending: Collection[str] = ()) -> Plan:
    """The wanted plan by the names that things have: a replica that runs as it is wanted keeps its
    name, and nothing else gets the name of one that runs. ending: names of replicas that are not
    planned any more and have not ended yet."""
    left = list(running)
    taken = {*ending, *(replica.name for replica in running)}
    names: dict[str, str] = {}
    new = []
    for replica in wanted.replicas:
        same = next((other for other in left if _is_same(other, replica)), None)
        if same is None:
            new.append(replica)
        else:
            left.remove(same)
            names[replica.name] = same.name
    for replica in new:
        names[replica.name] = _unused_name(replica, taken)
        taken.add(names[replica.name])
    return replace(
        wanted,
        replicas=tuple(replace(replica, name=names[replica.name]) for replica in wanted.replicas),
        devices=tuple(
            replace(
                device,
                breakdown=tuple(
                    replace(use, replica=names[use.replica]) for use in device.breakdown
                ),
            )
            for device in wanted.devices
        ),
    )


def bytes_by_replica(plan: Plan) -> dict[str, dict[str, int]]:
    """What each replica takes, by its name and the device's."""
    held: dict[str, dict[str, int]] = {replica.name: {} for replica in plan.replicas}
    for device in plan.devices:
        for use in device.breakdown:
            held[use.replica][device.name] = use.memory.total
    return held


def _is_same(a: PlannedReplica, b: PlannedReplica) -> bool:
    return (a.model, a.file, a.ranges, a.engine) == (b.model, b.file, b.ranges, b.engine)


def _unused_name(replica: PlannedReplica, taken: set[str]) -> str:
    if replica.name not in taken:
        return replica.name
    return next(name for n in count() if (name := f"{replica.model}/{n}") not in taken)


def _names(devices: Iterable[str]) -> str:
    return " and ".join(sorted(devices))
