"""What a replica does with its queue, one step at a time: slow, and plain to read.

fmedge's own engine goes by the real `plan_step` and `prefill_budget` and by what the engine loop
does around them (slots, placement, KV margin, preemption); other engines by vLLM's scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf

from fmedge.sched.fleet import ReplicaFacts
from fmedge.sched.steps import SequenceState, StepRates, choose_victim, plan_step, prefill_budget
from fmedge.sched.steptime import StepModel

KV_MARGIN_TOKENS = 32


@dataclass
class Request:
    """One request in service order. left: tokens it will yet sample."""

    tokens: int
    left: int
    cached: int = 0
    computed: int = 0
    phase: str = "waiting"  # "admitted" "prefilling" "decoding" "ended"
    arrival_s: float = -inf
    is_late: bool = False  # it cannot be in the step that is running
    start_s: float = inf
    first_s: float = inf
    end_s: float = inf
    num_preempted: int = 0

    @property
    def is_live(self) -> bool:
        return self.phase in ("prefilling", "decoding")


@dataclass
class NaiveReplica:
    facts: ReplicaFacts
    model: StepModel
    rates: StepRates
    requests: list[Request]
    now_s: float = 0.0
    num_steps: int = 0
    is_running_step: bool = False
    may_admit: bool = True
    ended: list[int] = field(default_factory=list)

    def run(self, max_steps: int = 200_000) -> None:
        """Until all have ended. Times count from 0; start with now_s < 0 for a running step."""
        for r in self.requests:
            if r.is_live:
                r.start_s = 0.0
            if r.phase == "decoding":
                r.first_s = 0.0
        while any(r.phase != "ended" for r in self.requests):
            assert self.num_steps < max_steps
            self.step()

    def step(self) -> None:
        if self.facts.step_tokens:
            self.foreign_step()
        else:
            self.engine_step()

    def present(self, *phases: str) -> list[int]:
        return [i for i, r in enumerate(self.requests) if r.phase in phases]

    def idle(self) -> None:
        """Nothing runs: the next arrival, or the end of a step that was not one."""
        if self.is_running_step:
            self.is_running_step = False
            self.now_s = max(self.now_s, 0.0)
            return
        coming = [r.arrival_s for r in self.requests if r.phase == "waiting"]
        assert coming, "requests are left that cannot run"
        self.now_s = min(coming)

    def may_take(self, r: Request) -> bool:
        return not (self.is_running_step and r.is_late) and r.arrival_s <= self.now_s

    # fmedge's engine

    def free_kv(self) -> int | None:
        if not self.facts.kv_unified:
            return None
        return self.facts.kv_tokens - sum(r.computed for r in self.requests if r.is_live)

    def engine_step(self) -> None:
        facts, requests = self.facts, self.requests
        for i in self.present("waiting"):
            if len(self.present("admitted", "prefilling", "decoding")) == facts.slots:
                break
            if self.may_take(requests[i]):
                requests[i].phase = "admitted"
        if not self.present("admitted", "prefilling", "decoding"):
            return self.idle()
        budget = prefill_budget(
            self.rates,
            facts.limits,
            num_decoding=len(self.present("decoding")),
            num_prefilling=len(self.present("admitted", "prefilling")),
        )
        for i in self.present("admitted"):
            r = requests[i]
            ahead = sum(
                requests[j].tokens - requests[j].computed
                for j in self.present("prefilling")
                if j < i
            )
            if ahead >= budget:
                break
            free, num_running = self.free_kv(), len(self.present("prefilling", "decoding"))
            margin = KV_MARGIN_TOKENS * (num_running + 1)
            if free is not None and num_running and r.tokens + margin > free:
                break
            r.phase = "prefilling"
            r.computed = r.cached
            r.start_s = min(r.start_s, self.now_s)
        running = [
            SequenceState(
                handle=i,
                num_pending=1 if r.phase == "decoding" else r.tokens - r.computed,
                is_decoding=r.phase == "decoding",
                arrival=i,
            )
            for i, r in enumerate(requests)
            if r.is_live
        ]
        plan = plan_step(
            running,
            budget,
            max_tokens=facts.limits.max_tokens,
            num_free_kv_tokens=self.free_kv(),
        )
        if plan.preempt:
            return self.preempt(plan.preempt[0])
        free = self.free_kv()
        num_tokens = len(plan.decode) + sum(chunk for _, chunk in plan.prefill)
        if num_tokens == 0 or (free is not None and num_tokens > free):
            # the engine finds no cells: what is alone is cut off
            assert len(running) == 1
            victim = choose_victim(running)
            assert victim is not None
            return self.end(victim)
        return self.carry_out(list(plan.decode), list(plan.prefill))

    def preempt(self, i: int) -> None:
        r = self.requests[i]
        r.phase, r.computed, r.cached = "waiting", 0, 0
        r.num_preempted += 1

    def end(self, i: int) -> None:
        r = self.requests[i]
        r.phase = "ended"
        r.first_s = min(r.first_s, self.now_s)
        r.end_s = self.now_s
        self.ended.append(i)

    def carry_out(self, decode: list[int], prefill: list[tuple[int, int]]) -> None:
        requests = self.requests
        self.now_s += self.model.step_s(
            sum(chunk for _, chunk in prefill),
            len(decode),
            sum(requests[i].computed for i in decode),
            sum(chunk * (requests[i].computed + chunk / 2) for i, chunk in prefill),
        )
        if self.is_running_step:
            self.is_running_step = False
            self.now_s = max(self.now_s, 0.0)
        self.num_steps += 1
        sampled = list(decode)
        for i in decode:
            requests[i].computed += 1
        for i, chunk in prefill:
            requests[i].computed += chunk
            if requests[i].computed == requests[i].tokens:
                sampled.append(i)
                requests[i].phase = "decoding"
        for i in sampled:
            r = requests[i]
            r.first_s = min(r.first_s, self.now_s)
            r.tokens += 1
            r.left -= 1
            if r.left == 0:
                self.end(i)

    # vLLM's scheduler

    def foreign_step(self) -> None:
        facts, requests = self.facts, self.requests
        block = facts.block_tokens
        num_blocks = facts.kv_tokens // block if facts.kv_unified else 1 << 40
        held = {i: ceil(r.computed / block) for i, r in enumerate(requests) if r.is_live}
        budget = facts.step_tokens
        decode: list[int] = []
        prefill: list[tuple[int, int]] = []
        has_preempted = False
        for i in sorted(held):
            if i not in held or budget == 0:
                continue
            r = requests[i]
            chunk = min(r.tokens - r.computed, budget)
            need = ceil((r.computed + chunk) / block)
            while need - held[i] > num_blocks - sum(held.values()):
                victim = max(held)
                del held[victim]
                self.preempt(victim)
                has_preempted = True
                if victim == i:
                    break
            if i not in held:
                break
            held[i] = need
            budget -= chunk
            if r.phase == "decoding":
                decode.append(i)
            else:
                prefill.append((i, chunk))
        if not has_preempted:
            for i in self.present("waiting"):
                r = requests[i]
                if budget == 0 or len(held) == facts.slots or not self.may_take(r):
                    break
                chunk = min(r.tokens - r.cached, budget)
                need = ceil((r.cached + chunk) / block)
                reserved = ceil(r.tokens / block) if facts.reserve_prompt else need
                if held and reserved > num_blocks - sum(held.values()):
                    break
                held[i] = need
                r.phase, r.computed = "prefilling", r.cached
                r.start_s = min(r.start_s, self.now_s)
                budget -= chunk
                prefill.append((i, chunk))
        if decode or prefill:
            self.carry_out(decode, prefill)
        elif not has_preempted:
            self.idle()
