"""One simulated replica: the engine loop's own steps in virtual time.

The rule: what a request gets here, and when, is what `replica.loop.EngineLoop` would give it with
the same specification and noise. A submit or cancel takes effect in the first step that begins at
or after it; time only goes forward.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan, nextafter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fmedge.sched.emulation import ReplicaSpec, step_factors
from fmedge.sched.prefix import TOKEN_BYTES
from fmedge.sched.steps import StepLimits, StepRates
from fmedge.sim import kernels
from fmedge.sim import layout as at
from fmedge.sim.kv import Kv, Placed
from fmedge.sim.seating import Seating

DEFAULT_CTX_SIZE = 8192
MIN_COLUMNS = 32
LOG_ENTRIES = 64

NO_TIMES = (nan, nan, nan)
"""Of a request: when it was submitted, began and got its first token."""

_Left = tuple[int, float, float]
"""Of a request that has ended: tokens cached, seconds queued and prefilled."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Sample = tuple[int, int, int, float, float]
"""A step: (P, D, K, A, seconds), as in `protocol.Step`, the first three as floats without a
fraction; A is a multiple of a half."""


class Engine:
    """One replica of a simulation. Requests are known by ids of the caller's, one at a time each.

    All times are seconds of the simulation's clock. What happened is asked for: `ended`, `tokens`,
    `prefilled` and `samples` give what is new since they were asked last.
    """

    def __init__(self, spec: ReplicaSpec, limits: StepLimits | None = None) -> None:
        settings = spec.engine
        self.spec = spec
        self.slots = settings.slots
        self.ctx_size = settings.ctx_size or DEFAULT_CTX_SIZE
        limits = limits or StepLimits(max_tokens=settings.batch_size)
        self._ints = np.zeros(
            (at.NUM_FIELDS, max(MIN_COLUMNS, at.NUM_TOTALS, 2 * self.slots)), np.int64
        )
        self._ahead = np.zeros_like(self._ints)
        self._totals = self._ints[at.TOTALS]
        self._totals[at.SLOTS] = self.slots
        self._totals[at.BATCH] = settings.batch_size
        if settings.kv_unified:
            self._totals[at.KV_TOKENS] = settings.kv_tokens or self.ctx_size * self.slots
        self._floats = np.zeros(at.NUM_FLOATS)
        self._floats[at.MAX_TOKENS : at.SAMPLES] = (
            limits.max_tokens,
            limits.decode_bound_s,
            limits.decode_slowdown,
            limits.prefill_bound_s,
        )
        self._floats[at.PACKED : at.FACTORS] = spec.steps.packed()
        self._floats[at.FACTORS :] = step_factors(spec.noise, spec.name)
        self._log = np.zeros((LOG_ENTRIES + 4 * self.slots, 3))
        self._columns: dict[int, int] = {}  # by request id, of those not cancelled
        num_columns = self._ints.shape[1]
        self._requests = [0] * num_columns  # ids, by column
        self._keys = [(0, 0)] * num_columns  # of the service order, by column
        self._times = [NO_TIMES] * num_columns  # by column
        self._samples: list[Sample] = []
        self._state = np.zeros(at.NUM_STATE)
        self._free = list(range(num_columns - 1, -1, -1))
        self._num_arrived = 0
        self._ended: list[tuple[int, float, bool]] = []
        self._last_tokens: list[tuple[int, int]] = []  # of those that have left
        self._last_prefilled: list[tuple[int, int]] = []
        self._next_s: float | None = inf
        self._seating: Seating | None = None  # from the first prompt on
        self._cancelled: list[int] = []  # columns, with the step under way
        self._left: dict[int, _Left] = {}  # by request id
        self._left_before: dict[int, _Left] = {}  # those whose end was told last
        self._rows = np.zeros((3, num_columns), np.int64)
        self._heads = np.zeros((1, at.HEAD_SIZE))
        self._regrow: Callable[[], None] | None = None

    # what is asked of it

    def submit(
        self,
        now_s: float,
        request_id: int,
        num_tokens: int,
        num_left: int,
        *,
        num_emitted: int = 0,
        priority: int = 0,
        prompt: bytes = b"",
        cache_key: str = "",
        is_stopped: bool = False,
    ) -> None:
        """A request of num_tokens (its prompt, and num_emitted that it got elsewhere) arrives.

        num_left: tokens that it will still give, fewer where ctx_size ends it before. is_stopped:
        it then ends by a token that is not emitted, and so a step later, as a model's own end does;
        else with its last token, as max_tokens does. prompt: its num_tokens - num_emitted first
        tokens, packed int32; b"" shares no KV with anything. ValueError where there is nothing to
        do, or more than the context holds.
        """
        if not 0 < num_tokens - num_emitted < self.ctx_size:
            raise ValueError(
                f"a prompt of {num_tokens - num_emitted} tokens; between 1 and "
                f"{self.ctx_size - 1} fit replica {self.spec.name}"
            )
        if num_left < (0 if is_stopped else 1):
            raise ValueError(f"request {request_id} has no token left to give")
        if prompt and len(prompt) != TOKEN_BYTES * (num_tokens - num_emitted):
            raise ValueError(f"the prompt of request {request_id} is not as long as is said")
        self.cancel(now_s, request_id)
        if not self._columns and not self._totals[at.IN_FLIGHT]:
            self._floats[at.CLOCK] = max(float(self._floats[at.CLOCK]), now_s)
        room = self.ctx_size - num_tokens
        if room <= 0:
            self._ended.append((request_id, now_s, True))
            return
        if num_left >= room:
            num_left, is_stopped = room, False
        self._num_arrived += 1
        if not self._free:
            self._grow()
        column = self._free.pop()
        self._columns[request_id] = column
        self._requests[column] = request_id
        if prompt and self._seating is None:
            self._seating = self._share()
        self._keys[column] = key = (-priority, self._num_arrived)
        submit_s = float(self._floats[at.END]) if self._totals[at.IN_FLIGHT] else now_s
        self._times[column] = (submit_s, nan, nan)
        place = int(self._totals[at.NUM_PRESENT])
        order = self._ints[at.ORDER]
        while place > 0 and self._keys[order[place - 1]] > key:
            place -= 1
        if self._seating is not None:
            placed = Placed(request_id, prompt, cache_key, key, num_tokens)
            self._seating.add(column, placed)
        kernels.put(
            self._ints,
            request_id,
            column,
            place,
            num_tokens,
            num_left + is_stopped,
            is_stopped,
        )
        self._next_s = None

    def cancel(self, now_s: float, request_id: int) -> None:
        """A request is dropped; nothing more is told of it. An unknown id is ignored."""
        self._run(now_s)
        column = self._columns.pop(request_id, None)
        if column is None:
            return
        self._next_s = None
        phase = self._ints[at.PHASE, column]
        if self._totals[at.IN_FLIGHT] and phase >= at.PREFILLING:
            self._ints[at.IS_CANCELLED, column] = 1
            self._cancelled.append(column)
            return
        self._totals[at.IS_TOUCHED] = 1
        self._take_out(column)

    def advance(self, now_s: float) -> None:
        """Run all steps that end by now_s, and begin those that begin before it."""
        self._run(now_s)

    @property
    def next_s(self) -> float:
        """When to advance to next: the end of the next step in which a first token comes or a
        request ends, or a moment before it at which more can be known; inf where there is none."""
        if self._next_s is None:
            self._next_s = self._look_ahead()
        return self._next_s

    # what happened since it was asked last

    def ended(self) -> list[tuple[int, float, bool]]:
        """(request id, when, is_last) of first tokens (False) and ends (True), in order of time."""
        ended, self._ended = self._ended, []
        self._left, self._left_before = {}, self._left
        return ended

    def tokens(self) -> list[tuple[int, int]]:
        """(request id, tokens emitted since), of those that have ended first."""
        self._gather()
        out, self._last_tokens = self._last_tokens, []
        return out

    def prefilled(self) -> list[tuple[int, int]]:
        """(request id, tokens with KV) of those whose prefill advanced, as `Step.prefilled`."""
        self._gather()
        out, self._last_prefilled = self._last_prefilled, []
        return out

    def samples(self) -> list[Sample]:
        """The steps since, in their order; of more than MOST_SAMPLED the last."""
        self._gather()
        out, self._samples = self._samples, []
        return out

    # how it stands

    @property
    def rates(self) -> StepRates:
        """The step policy's own, as the last planned step told them."""
        floats = self._floats
        return StepRates(float(floats[at.TOLD_PREFILL_RATE]), float(floats[at.TOLD_DECODE_RATE]))

    @property
    def busy_s(self) -> float:
        """Of the steps that have ended."""
        return float(self._floats[at.BUSY])

    @property
    def stepped_s(self) -> float:
        """When the last step ended; -inf before any. Once an idle engine got work again, when it
        did."""
        return float(self._floats[at.CLOCK]) if self._totals[at.NUM_STEPS] else -inf

    @property
    def num_steps(self) -> int:
        """That have ended."""
        return int(self._totals[at.NUM_STEPS])

    @property
    def num_preempted(self) -> int:
        return int(self._totals[at.NUM_PREEMPTED])

    @property
    def num_running(self) -> int:
        """Requests in a slot."""
        return int(self._totals[at.NUM_RUNNING])

    @property
    def num_waiting(self) -> int:
        return int(self._totals[at.NUM_PRESENT] - self._totals[at.NUM_RUNNING])

    def num_cached(self, request_id: int) -> int:
        """Tokens whose KV a request found here when it began; 0 where it has not. Of one that has
        ended until `ended` is asked again after its end was told."""
        column = self._columns.get(request_id)
        if column is None:
            left = self._left_of(request_id)
            return 0 if left is None else left[0]
        return 0 if self._seating is None else self._seating.num_cached(column)

    def num_emitted(self, request_id: int) -> int:
        """Tokens that a request has given here, by the steps that have ended; 0 of one that is not
        here."""
        column = self._columns.get(request_id)
        return 0 if column is None else int(self._ints[at.EMITTED, column])

    def timings(self, request_id: int) -> tuple[float, float]:
        """(queue_s, prefill_s) of a request, as `StepTimings` has them; nan where it is not that
        far. Of one that has ended as long as `num_cached` is."""
        column = self._columns.get(request_id)
        if column is None:
            left = self._left_of(request_id)
            return (nan, nan) if left is None else left[1:]
        submit_s, start_s, first_s = self._times[column]
        return start_s - submit_s, first_s - start_s

    def _left_of(self, request_id: int) -> _Left | None:
        return self._left.get(request_id) or self._left_before.get(request_id)

    # how it gets on

    def _run(self, now_s: float) -> None:
        if self._totals[at.NUM_PRESENT]:
            code = kernels.run(self._ints, self._floats, self._log, now_s, False)
            self.go_on(now_s, code)

    def go_on(self, now_s: float, code: int) -> None:
        """Go on to now_s where the kernel came back with this code."""
        while True:
            if self._totals[at.NUM_LOGGED]:
                self._read_log()
            if code == at.RESTS:
                return
            self._next_s = None
            if self._seating is not None:
                self._decide(self._seating, code)
            code = kernels.run(self._ints, self._floats, self._log, now_s, False)

    def _decide(self, seating: Seating, code: int) -> None:
        """What the kernel leaves to others, before the next step."""
        now_s = float(self._floats[at.CLOCK])
        if code == at.WANTS_PLACE:
            for column in seating.begin(self._ints, self._floats):
                self._note_begin(column, now_s)
        elif code == at.WANTS_PREEMPTION:
            seating.preempt(self._ints)
        elif code == at.WANTS_ROOM:
            column = seating.make_room(self._ints)
            if column >= 0:
                self._note_end(column, now_s)
                self._take_out(column)

    def _read_log(self) -> None:
        """Take note of what happened; columns of those that have left are free again."""
        num, self._totals[at.NUM_LOGGED] = int(self._totals[at.NUM_LOGGED]), 0
        self._next_s = None
        left: list[int] = []
        logged = self._log[:num].tolist()
        if self._seating is not None:
            # what a step brings is told by sequence id, as the loop does
            ids = self._ints[at.SEQ_ID].tolist()
            logged.sort(
                key=lambda one: (one[0], ids[int(one[1])] if one[2] != at.HAS_BEGUN else -1)
            )
        for at_s, number, kind in logged:
            column = int(number)
            if kind == at.HAS_BEGUN:
                self._note_begin(column, at_s)
            elif kind == at.HAS_FIRST:
                submit_s, start_s, _ = self._times[column]
                self._times[column] = (submit_s, start_s, at_s)
                self._ended.append((self._requests[column], at_s, False))
            else:
                left.append(column)
                if kind == at.HAS_ENDED:
                    self._note_end(column, at_s)
        if not left:
            return
        if self._seating is not None:
            # a step's ends by sequence id, then what was cancelled meanwhile, as in the loop
            seq_ids, rest = self._ints[at.SEQ_ID], self._ints[at.LEFT]
            gone = [c for c in self._cancelled if rest[c] > 0]
            ends = sorted((c for c in left if c not in gone), key=lambda c: int(seq_ids[c]))
            self._seating.leave(self._ints, ends + gone)
        self._cancelled = [c for c in self._cancelled if c not in left]
        self._free += left

    def _note_begin(self, column: int, at_s: float) -> None:
        submit_s, start_s, first_s = self._times[column]
        if start_s != start_s:  # nan: it begins for the first time
            self._times[column] = (submit_s, at_s, first_s)

    def _note_end(self, column: int, at_s: float) -> None:
        request_id = self._requests[column]
        self._ended.append((request_id, at_s, True))
        submit_s, start_s, first_s = self._times[column]
        if first_s != first_s:  # nan: it ends without a token
            first_s = at_s
        num_cached = 0 if self._seating is None else self._seating.num_cached(column)
        self._left[request_id] = (num_cached, start_s - submit_s, first_s - start_s)
        del self._columns[request_id]
        told, told_prefilled = self._ints[at.TOLD_EMITTED :, column].tolist()
        num_new = int(self._ints[at.EMITTED, column]) - told
        if num_new:
            self._last_tokens.append((request_id, num_new))
        prefilled = int(self._ints[at.PREFILLED, column])
        if prefilled != told_prefilled:
            self._last_prefilled.append((request_id, prefilled))

    def take_last(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Tokens and prefills that were noted and not asked for yet, of those that have ended."""
        tokens, self._last_tokens = self._last_tokens, []
        prefilled, self._last_prefilled = self._last_prefilled, []
        return tokens, prefilled

    def _gather(self) -> None:
        """Take note of what the requests here got since."""
        if self._totals[at.NUM_STEPS] == self._totals[at.SEEN_STEPS]:
            return
        ints, floats = self._ints[np.newaxis], self._floats[np.newaxis]
        _, num = kernels.gather(ints, floats, self._rows, self._heads)
        self._samples = samples_of(self._heads[0].tolist())
        for request_id, num_new, prefilled in self._rows[:, :num].T.tolist():
            if num_new:
                self._last_tokens.append((request_id, num_new))
            if prefilled >= 0:
                self._last_prefilled.append((request_id, prefilled))

    def _take_out(self, column: int) -> None:
        """A request leaves between steps."""
        kernels.take_out(self._ints, column)
        if self._seating is not None:
            self._seating.leave(self._ints, [column])
        self._free.append(column)

    def _share(self) -> Seating:
        """From now on KV is shared, by requests that bring their prompt."""
        seating = Seating(Kv(self.spec, int(self._totals[at.KV_TOKENS])))
        present = self._ints[at.ORDER, : self._totals[at.NUM_PRESENT]].tolist()
        placed = {
            column: Placed(self._requests[column], b"", "", self._keys[column], 0)
            for column in present
        }
        seating.take_over(self._ints, placed)
        return seating

    def _look_ahead(self) -> float:
        if not self._totals[at.NUM_PRESENT]:
            return inf
        code, at_s = kernels.look_ahead(
            self._ints, self._ahead, self._floats, self._log, self._state
        )
        if code == at.RESTS:
            return inf
        return at_s if code == at.HAS_NOTABLE else nextafter(at_s, inf)

    def _grow(self) -> None:
        """Room for twice as many."""
        if self._regrow is not None:
            self._regrow()
            return
        num_fields, num = self._ints.shape
        self._move(np.zeros((num_fields, 2 * num), np.int64))

    def move_to(self, ints: Ints, floats: Floats, log: Floats, regrow: Callable[[], None]) -> None:
        """Live in these arrays from now on, as layout.py has them; regrow: gives wider ones."""
        floats[:] = self._floats
        self._floats, self._log, self._regrow = floats, log, regrow
        self._move(ints)

    def _move(self, ints: Ints) -> None:
        num, more = self._ints.shape[1], ints.shape[1] - self._ints.shape[1]
        ints[:, :num] = self._ints
        self._ints = ints
        self._ahead = np.zeros_like(ints)
        self._rows = np.zeros((3, ints.shape[1]), np.int64)
        self._totals = ints[at.TOTALS]
        self._requests.extend([0] * more)
        self._keys.extend([(0, 0)] * more)
        self._times.extend([NO_TIMES] * more)
        self._free[:0] = range(num + more - 1, num - 1, -1)


def samples_of(head: list[float]) -> list[Sample]:
    """The steps in a row of what was gathered."""
    end = at.SAMPLED + int(head[at.NUM_SAMPLED]) * at.SAMPLE_SIZE
    starts = range(at.SAMPLED, end, at.SAMPLE_SIZE)
    return cast(list[Sample], [tuple(head[i : i + at.SAMPLE_SIZE]) for i in starts])
