"""Residency in virtual time: what fits, who goes, that swaps pay and that nobody starves."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.sched.cold import OpenWork
from fmedge.sched.residency import Residency
from fmedge.sched.resident import (
    Hopeless,
    Load,
    ModelRule,
    ResidencySettings,
    Resident,
    Retry,
    Unload,
    choose_victims,
)

GIB = 1 << 30
DT_S = 0.05


def resident(model: str, gib: float = 1.0, *, load_s: float = 2.0, number: int = 0) -> Resident:
    return Resident(
        replica=f"{model}/{number}", model=model, bytes={"gpu0": int(gib * GIB)}, load_s=load_s
    )


class Machine:
    """Memory, processes and slots in virtual time; every model serves `slots` at once."""

    def __init__(
        self,
        residents: list[Resident],
        gib: float,
        rules: dict[str, ModelRule] | None = None,
        *,
        slots: int = 4,
        **fields: object,
    ) -> None:
        self.settings = ResidencySettings(**fields)
        self.capacity = int(gib * GIB)
        self.residency = Residency({"gpu0": self.capacity}, self.settings)
        self.residency.set_residents(0.0, residents, rules or {})
        self.residents = {r.replica: r for r in residents}
        self.now_s = 0.0
        self.slots = slots
        self.state: dict[str, str] = {}
        self.until_s: dict[str, float] = {}
        self.waiting: dict[str, deque] = {r.model: deque() for r in residents}
        self.running: dict[str, list[list]] = {r.replica: [] for r in residents}
        self.num_arrived = dict.fromkeys(self.waiting, 0)
        self.waits: list[float] = []
        self.num_served = 0
        self.loads: list[str] = []
        self.log: list = []

    def arrive(self, model: str, service_s: float = 1.0, weight: float = 1.0) -> None:
        self.waiting[model].append((self.now_s, weight, service_s))
        self.num_arrived[model] += 1

    def loaded(self) -> set[str]:
        return {self.residents[name].model for name, s in self.state.items() if s == "loaded"}

    def carry_out(self, effects) -> None:
        for effect in effects:
            self.log.append((self.now_s, effect))
            if isinstance(effect, Load):
                assert effect.replica not in self.state
                self.state[effect.replica] = "loading"
                self.until_s[effect.replica] = self.now_s + self.residents[effect.replica].load_s
                self.loads.append(effect.replica)
            elif isinstance(effect, Unload):
                self.state[effect.replica] = "unloading"
                self.until_s[effect.replica] = self.now_s + effect.deadline_s
        used = sum(self.residents[name].bytes["gpu0"] for name in self.state)
        assert used <= self.capacity, "loaded into memory that was not free"

    def step(self) -> None:
        self.now_s += DT_S
        for name, state in list(self.state.items()):
            running, model = self.running[name], self.residents[name].model
            for request in running:
                request[0] -= DT_S
            self.num_served += sum(left <= 0 for left, *_ in running)
            running[:] = [request for request in running if request[0] > 0]
            if state == "loading" and self.now_s >= self.until_s[name]:
                self.state[name] = "loaded"
                self.residency.on_loaded(self.now_s, name, self.residents[name].load_s)
            elif state == "unloading" and (not running or self.now_s >= self.until_s[name]):
                for left, arrived_s, weight in running:
                    self.waiting[model].appendleft((arrived_s, weight, left))
                running.clear()
                del self.state[name]
                self.residency.on_unloaded(self.now_s, name)
            elif state == "loaded":
                while self.waiting[model] and len(running) < self.slots:
                    arrived_s, weight, service_s = self.waiting[model].popleft()
                    running.append([service_s, arrived_s, weight])
                    self.waits.append(self.now_s - arrived_s)
        works = {
            model: OpenWork(
                waiting=tuple((arrived_s, weight) for arrived_s, weight, _ in waiting),
                num_running=sum(
                    len(r) for name, r in self.running.items()
                    if self.residents[name].model == model
                ),
                running_weight=float(
                    sum(
                        weight for name, r in self.running.items()
                        if self.residents[name].model == model
                        for *_, weight in r
                    )
                ),
                num_arrived=self.num_arrived[model],
            )
            for model, waiting in self.waiting.items()
        }  # fmt: skip
        self.residency.see(self.now_s, works)
        self.carry_out(self.residency.decide(self.now_s))

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.step()

    def run_until_served(self, limit_s: float) -> None:
        end_s = self.now_s + limit_s
        while any(self.waiting.values()) or any(self.running.values()):
            assert self.now_s < end_s, "something was never served"
            self.step()


def test_at_the_start_what_fits_is_loaded_in_order():
    machine = Machine([resident("a"), resident("b"), resident("c")], gib=2.0)
    machine.run(5.0)
    assert machine.loaded() == {"a", "b"}
    status = {s.model: s for s in machine.residency.status(machine.now_s)}
    assert status["a"].why == "it fits beside the others"
    assert status["c"].state == "unloaded"
    assert machine.residency.is_settled


def test_the_idle_model_that_is_worth_least_a_byte_goes():
    machine = Machine([resident("a"), resident("b"), resident("c", load_s=3.0)], gib=2.0)
    machine.run(4.0)
    for _ in range(5):  # a is asked for often, b was asked once
        machine.arrive("a", 0.1)
        machine.run(2.0)
    machine.arrive("b", 0.1)
    machine.run(20.0)
    machine.arrive("c")
    machine.run_until_served(20.0)
    assert machine.loaded() == {"a", "c"}
    status = {s.model: s for s in machine.residency.status(machine.now_s)}
    assert status["b"].why == "its memory is needed for c"
    assert "1 request waits for it" in status["c"].why


def test_memory_is_used_only_when_the_process_has_ended():
    machine = Machine([resident("a"), resident("b")], gib=1.0, drain_s=30.0)
    machine.run(4.0)
    machine.arrive("a", service_s=8.0)
    machine.step()
    for _ in range(50):
        machine.arrive("b")
    machine.run(7.0)
    assert machine.state == {"a/0": "unloading"} or machine.loaded() == {"a"}
    machine.run_until_served(60.0)
    (unloaded_s,) = [at for at, e in machine.log if isinstance(e, Unload)]
    loaded_s = next(at for at, e in machine.log if e == machine.log[-1][1])
    assert loaded_s >= 12.0 - DT_S > unloaded_s


def test_a_queue_is_served_before_a_swap_and_the_swap_comes_when_it_pays():
    machine = Machine([resident("a"), resident("b")], gib=1.0, slots=1)
    machine.run(3.0)
    for _ in range(8):
        machine.arrive("a", 0.5)
    machine.step()
    machine.arrive("b", 0.5)
    machine.run(2.0)
    assert machine.state == {"a/0": "loaded"}
    machine.run_until_served(30.0)
    assert machine.loads == ["a/0", "b/0"]
    assert max(machine.waits) < 10.0


def test_grouping_serves_twice_as_much_as_swapping_at_each_change():
    served = {}
    for policy in ("fifo", "value"):
        rng = random.Random(7)
        machine = Machine(
            [resident(model) for model in "abc"], gib=1.0, policy=policy, max_wait_s=20.0
        )
        while machine.now_s < 120.0:
            while sum(len(queue) for queue in machine.waiting.values()) < 24:
                machine.arrive(rng.choice("abc"), 0.4)
            machine.step()
        served[policy] = machine.num_served
        assert len(set(machine.loads)) == 3
    assert served["value"] >= 2 * served["fifo"], served


def test_a_single_request_is_not_starved_by_a_flood():
    machine = Machine([resident("a"), resident("b")], gib=1.0, max_wait_s=8.0)
    machine.run(3.0)
    machine.arrive("b", 0.5)
    arrived_s = machine.now_s
    while machine.waiting["b"] and machine.now_s < 60.0:
        for _ in range(3 - len(machine.waiting["a"])):
            machine.arrive("a", 1.0)
        machine.step()
    # its time, what runs on a, a's process and b's load
    assert machine.now_s - arrived_s <= 8.0 + 1.0 + 2.0 + 5 * DT_S


def test_weight_counts():
    def swap_after(weight: float) -> float:
        machine = Machine([resident("a"), resident("b")], gib=1.0, slots=1)
        machine.run(8.0)
        for _ in range(40):
            machine.arrive("a", 1.0)
        machine.arrive("b", weight=weight)
        arrived_s = machine.now_s
        while not any(isinstance(e, Unload) for _, e in machine.log):
            machine.step()
        return machine.now_s - arrived_s

    assert swap_after(20.0) < 0.5 * swap_after(1.0)


def test_what_is_pinned_stays_and_comes_first():
    rules = {"b": ModelRule(is_pinned=True)}
    machine = Machine([resident("a"), resident("b")], 1.0, rules)
    machine.run(3.0)
    assert machine.loaded() == {"b"}
    machine.arrive("a")
    machine.step()
    (hopeless,) = [e for _, e in machine.log if isinstance(e, Hopeless)]
    assert hopeless.model == "a"
    assert "1.00 GiB on gpu0 are missing" in hopeless.reason
    (status, _) = machine.residency.status(machine.now_s)
    assert status.state == "failed"
    machine.waiting["a"].clear()
    # Another plan makes it possible, and that is said.
    machine.residency.set_residents(
        machine.now_s, list(machine.residents.values()), rules, {"gpu0": 2 * GIB}
    )
    machine.capacity = 2 * GIB
    machine.step()
    assert any(isinstance(e, Retry) for _, e in machine.log)
    machine.run(3.0)
    assert machine.loaded() == {"a", "b"}


def test_keep_alive_unloads_what_is_idle_and_only_that():
    rules = {"a": ModelRule(keep_alive_s=5.0)}
    machine = Machine([resident("a"), resident("b")], 2.0, rules)
    machine.run(3.0)
    machine.arrive("a", service_s=6.0)
    machine.run(8.0)
    assert machine.loaded() == {"a", "b"}
    (status, _) = machine.residency.status(machine.now_s)
    assert 2.0 < status.keep_alive_left_s < 4.0
    machine.run(4.0)
    assert machine.loaded() == {"b"}
    machine.run(10.0)
    assert machine.loads == ["a/0", "b/0"], "it is not loaded again before somebody asks"
    machine.arrive("a")
    machine.run_until_served(5.0)


def test_commands_are_obeyed():
    machine = Machine([resident("a"), resident("b")], 1.0, min_resident_s=60.0)
    machine.run(3.0)
    machine.residency.command_load("b")
    machine.run(4.0)
    assert machine.loaded() == {"b"}
    machine.carry_out(machine.residency.command_unload(machine.now_s, "b"))
    machine.run(5.0)
    assert machine.state == {}
    machine.arrive("a")
    machine.run_until_served(5.0)
    with pytest.raises(KeyError):
        machine.residency.command_load("x")


def test_failures_back_off_and_are_reported():
    machine = Machine([resident("a")], 1.0)
    machine.step()
    waits = []
    for _ in range(3):
        assert machine.state == {"a/0": "loading"}
        del machine.state["a/0"]
        waits.append(machine.residency.on_failed(machine.now_s, "a/0", "no such device"))
        (status,) = machine.residency.status(machine.now_s)
        assert (status.state, status.error) == ("failed", "no such device")
        machine.run(waits[-1] - DT_S)
        assert machine.state == {}
        machine.waiting["a"].clear()
        machine.run(3 * DT_S)
        assert isinstance(machine.log[-1][1], Retry)
        machine.arrive("a")
        machine.step()
    assert waits == [5.0, 10.0, 20.0]
    machine.run_until_served(5.0)
    assert machine.residency.status(machine.now_s)[0].error == ""


def test_a_second_replica_comes_when_requests_wait_and_memory_is_free():
    replicas = [resident("a"), resident("a", number=1), resident("b")]
    machine = Machine(replicas, 2.0, slots=1)
    machine.run(3.0)
    assert machine.loaded() == {"a"}
    machine.arrive("b", 0.5)
    machine.run_until_served(10.0)
    assert machine.loaded() == {"a", "b"}, "the second replica of a was worth least"
    assert len(machine.state) == 2


def test_what_is_no_longer_planned_goes():
    machine = Machine([resident("a"), resident("b")], 2.0)
    machine.run(3.0)
    machine.residency.set_residents(machine.now_s, [resident("b")], {})
    machine.run(3.0)
    assert machine.loaded() == {"b"}
    assert machine.residency.state("a/0") is None


@pytest.mark.parametrize(("gib", "is_first"), [(2.0, True), (1.0, False)])
def test_what_is_new_starts_before_what_is_old_stops_where_memory_allows(gib, is_first):
    machine = Machine([resident("a"), resident("a", number=1)], gib)
    machine.residency.set_residents(0.0, [resident("a")], {})
    machine.run(3.0)
    machine.residency.set_residents(machine.now_s, [resident("a", number=1)], {})
    machine.run(6.0)
    assert machine.state == {"a/1": "loaded"}
    kinds = [type(effect) for _, effect in machine.log]
    assert kinds == ([Load, Load, Unload] if is_first else [Load, Unload, Load])


def test_the_old_goes_on_while_the_new_cannot_be_loaded():
    machine = Machine([resident("a"), resident("a", number=1)], 2.0)
    machine.residency.set_residents(0.0, [resident("a")], {})
    machine.run(3.0)
    machine.residency.set_residents(machine.now_s, [resident("a", number=1)], {})
    machine.step()
    del machine.state["a/1"]
    machine.residency.on_failed(machine.now_s, "a/1", "no memory")
    machine.run(4.0)
    assert machine.state == {"a/0": "loaded"}
    machine.run(4.0)
    assert machine.state == {"a/1": "loaded"}


def test_what_to_expect():
    machine = Machine([resident("a", load_s=4.0), resident("b", load_s=3.0)], 1.0, unload_s=0.5)
    assert machine.residency.expected_s(0.0, "b") == 3.0
    machine.run(5.0)  # a is loaded for a second by now, and stays for two
    assert machine.residency.expected_s(machine.now_s, "b") == pytest.approx(4.5, abs=0.2)


def test_victims_that_are_not_needed_stay():
    from fmedge.sched.resident import ReplicaEntry

    entries = [ReplicaEntry(resident(m, gib), 0.0) for m, gib in (("s", 1), ("m", 2), ("l", 6))]
    assert [e.model for e in choose_victims({"gpu0": 6 * GIB}, entries)] == ["l"]
    assert [e.model for e in choose_victims({"gpu0": 3 * GIB}, entries)] == ["s", "m"]
    assert choose_victims({"gpu0": 10 * GIB}, entries) is None


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=2, max_size=4),
    gib=st.sampled_from([1.5, 2.0, 3.0]),
    seed=st.integers(0, 10**6),
    rate=st.sampled_from([0.3, 1.0, 4.0]),
    slots=st.sampled_from([1, 4]),
)
def test_nothing_starves_whatever_comes(sizes, gib, seed, rate, slots):
    """Everything is served in the end, in memory that is there; and no model's first request waits
    for longer than every other model's turn: its load, what it may stay, and its drain."""
    models = "abcd"[: len(sizes)]
    machine = Machine(
        [resident(m, size, load_s=1.0) for m, size in zip(models, sizes, strict=True)],
        gib,
        slots=slots,
        max_wait_s=10.0,
        drain_s=3.0,
    )
    rng = random.Random(seed)
    turn_s = 1.0 + 2.0 + 3.0 + 4 * DT_S
    while machine.now_s < 40.0:
        while rng.random() < rate * DT_S:
            machine.arrive(rng.choice(models), rng.uniform(0.05, 1.0), rng.choice([1.0, 5.0]))
        machine.step()
        for model, queue in machine.waiting.items():
            if queue and model not in machine.loaded():
                longest_s = machine.now_s - queue[0][0]
                limit_s = 10.0 + turn_s * len(models)
                swapped_s = max(
                    (at for at, e in machine.log if isinstance(e, Unload) and e.model == model),
                    default=0.0,
                )
                assert min(longest_s, machine.now_s - swapped_s) <= limit_s
    machine.run_until_served(2000.0)
