"""The oracle of a paged engine's replay: one step, one block at a time, slow and readable.

Its order of things is vLLM v1's: what runs comes first, in order of admission; who needs a block
that is not free takes it from the youngest admitted; then, unless somebody was preempted, the
waiting are admitted in order while tokens and blocks are left. Freed blocks queue up, a sequence's
last one first, and are taken from the front: until then a preempted request finds its own again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

StepTime = Callable[[int, int, int, float], float]
"""(P, D, K, A) to seconds."""


@dataclass(frozen=True)
class Limits:
    step_tokens: int
    max_sequences: int
    num_blocks: int
    block_tokens: int
    reserve_prompt: bool = True
    schedule_ahead: bool = False
    prefix_caching: bool = True


@dataclass(eq=False)
class Request:
    """num_known: tokens that exist once every planned step has ended; `num_pending` of the emitted
    ones are still being computed."""

    arrival_s: float
    num_prompt: int
    num_output: int
    num_computed: int = 0
    num_known: int = 0
    num_emitted: int = 0
    blocks: list[Block] = field(default_factory=list)
    num_preemptions: int = 0
    scheduled_s: float = -1.0
    first_s: float = -1.0
    end_s: float = -1.0


@dataclass(eq=False)
class Block:
    owner: Request | None = None
    index: int = 0


@dataclass
class _Step:
    end_s: float
    emits: list[Request]


class NaivePagedReplay:
    """`run` until everything has ended; the requests carry the result."""

    def __init__(self, limits: Limits, step_time: StepTime) -> None:
        self.limits = limits
        self.step_time = step_time
        self.free: deque[Block] = deque(Block() for _ in range(limits.num_blocks))
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.num_steps = 0

    def run(self, arrivals: Sequence[tuple[float, int, int]]) -> list[Request]:
        """arrivals: (arrival_s, num_prompt, num_output), ascending; the same order comes back."""
        requests = [Request(*arrival) for arrival in arrivals]
        for request in requests:
            request.num_known = request.num_prompt
        future = deque(requests)
        under_way: deque[_Step] = deque()
        now_s = device_free_s = 0.0
        while future or self.waiting or self.running or under_way:
            while future and future[0].arrival_s <= now_s:
                self.waiting.append(future.popleft())
            plan = self._plan(now_s)
            if plan:
                device_free_s = max(device_free_s, now_s) + self._time_of(plan)
                under_way.append(_Step(device_free_s, self._emitting(plan)))
                self.num_steps += 1
                if self.limits.schedule_ahead and len(under_way) == 1:
                    continue
            if under_way:
                step = under_way.popleft()
                now_s = step.end_s
                self._end(step)
            elif future:
                now_s = max(now_s, future[0].arrival_s)
            else:
                raise AssertionError("a request needs more KV than there is")
        return requests

    def _plan(self, now_s: float) -> list[tuple[Request, int, int]]:
        """(request, its tokens in this step, tokens computed before)."""
        budget = self.limits.step_tokens
        plan: list[tuple[Request, int, int]] = []
        preempted = False
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            num = min(request.num_known - request.num_computed, budget)
            if num == 0:  # its last token is being computed by the step that runs now
                index += 1
                continue
            while self._missing(request, request.num_computed + num) > len(self.free):
                victim = self.running.pop()
                self._preempt(victim)
                preempted = True
                if victim is request:
                    break
            if index == len(self.running):
                break
            self._take(request, request.num_computed + num)
            plan.append((request, num, request.num_computed))
            budget -= num
            index += 1
        while self.waiting and not preempted and budget > 0:
            request = self.waiting[0]
            own = self._own_free_blocks(request)
            num_cached = len(own) * self.limits.block_tokens
            num = min(request.num_known - num_cached, budget)
            asked = request.num_known if self.limits.reserve_prompt else num_cached + num
            if len(self.running) == self.limits.max_sequences:
                break
            if self._num_blocks(asked) > len(self.free):
                break
            self.waiting.popleft()
            for block in own:
                self.free.remove(block)
            request.blocks = own
            request.num_computed = num_cached
            self._take(request, num_cached + num)
            self.running.append(request)
            plan.append((request, num, num_cached))
            budget -= num
            if request.scheduled_s < 0:
                request.scheduled_s = now_s
        for request, num, past in plan:
            request.num_computed = past + num
        return plan

    def _time_of(self, plan: list[tuple[Request, int, int]]) -> float:
        """A chunk of a single token costs what a decoding sequence costs."""
        chunks = [(num, past) for _, num, past in plan if num > 1]
        depths = [past for _, num, past in plan if num == 1]
        attention = sum(num * (past + num / 2) for num, past in chunks)
        return self.step_time(sum(num for num, _ in chunks), len(depths), sum(depths), attention)

    def _emitting(self, plan: list[tuple[Request, int, int]]) -> list[Request]:
        """Those whose step ends in a token, which is known of from now on, though not its value."""
        emits = [request for request, _, _ in plan if request.num_computed == request.num_known]
        for request in emits:
            if request.num_known < request.num_prompt + request.num_output - 1:
                request.num_known += 1
        return emits

    def _end(self, step: _Step) -> None:
        for request in step.emits:
            request.num_emitted += 1
            if request.num_emitted == 1:
                request.first_s = step.end_s
            if request.num_emitted == request.num_output:
                request.end_s = step.end_s
                if request in self.running:
                    self.running.remove(request)
                    self._give_back(request, stays_known=False)
                else:
                    self.waiting.remove(request)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.limits.block_tokens)

    def _missing(self, request: Request, num_tokens: int) -> int:
        return self._num_blocks(num_tokens) - len(request.blocks)

    def _take(self, request: Request, num_tokens: int) -> None:
        for _ in range(self._missing(request, num_tokens)):
            block = self.free.popleft()
            block.owner = request
            block.index = len(request.blocks)
            request.blocks.append(block)

    def _preempt(self, request: Request) -> None:
        self._give_back(request, stays_known=self.limits.prefix_caching)
        request.num_computed = 0
        request.num_preemptions += 1
        self.waiting.appendleft(request)

    def _give_back(self, request: Request, *, stays_known: bool) -> None:
        """Only full blocks are found again."""
        num_full = request.num_computed // self.limits.block_tokens
        for block in reversed(request.blocks):
            if not stays_known or block.index >= num_full:
                block.owner = None
            self.free.append(block)
        request.blocks = []

    def _own_free_blocks(self, request: Request) -> list[Block]:
        """The prefix that is still there; at least one token is computed again."""
        own = {block.index: block for block in self.free if block.owner is request}
        usable = (request.num_known - 1) // self.limits.block_tokens
        found = []
        while len(found) < usable and len(found) in own:
            found.append(own[len(found)])
        return found
