"""One simulated replica: the engine loop's own steps in virtual time.

The rule: what a request gets here, and when, is what `replica.loop.EngineLoop` would give it with
the same specification and noise. A submit or cancel takes effect in the first step that begins at
or after it; time only goes forward.
"""

from __future__ import annotations

from math import inf, nan, nextafter

import numpy as np

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

Sample = tuple[int, int, int, int, float]
"""A step: (P, D, K, A, seconds), as in `protocol.Step`; A is a multiple of a half."""


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
        self._log = np.zeros((LOG_ENTRIES + 2 * self.slots, 3))
        self._columns: dict[int, int] = {}  # by request id, of those not cancelled
        num_columns = self._ints.shape[1]
        self._requests = [0] * num_columns  # ids, by column
        self._keys = [(0, 0)] * num_columns  # of the service order, by column
        self._told_tokens = [0] * num_columns  # by column
        self._told_prefilled = [0] * num_columns
        self._told_samples = [0, 0]
        self._free = list(range(num_columns - 1, -1, -1))
        self._num_arrived = 0
        self._ended: list[tuple[int, float, bool]] = []
        self._last_tokens: list[tuple[int, int]] = []  # of those that have left
        self._last_prefilled: list[tuple[int, int]] = []
        self._next_s: float | None = inf
        self._seating: Seating | None = None  # from the first prompt on
        self._cancelled: list[int] = []  # columns, with the step under way
        self._cached: dict[int, int] = {}  # of those that have left
        self._cached_before: dict[int, int] = {}  # of those whose end was told last

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
        self._told_tokens[column] = self._told_prefilled[column] = 0
        place = int(self._totals[at.NUM_PRESENT])
        order = self._ints[at.ORDER]
        while place > 0 and self._keys[order[place - 1]] > key:
            place -= 1
        if self._seating is not None:
            placed = Placed(request_id, prompt, cache_key, key, num_tokens)
            self._seating.add(column, placed)
        kernels.put(self._ints, column, place, num_tokens, num_left + is_stopped, is_stopped)
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
        self._cached, self._cached_before = {}, self._cached
        return ended

    def tokens(self) -> list[tuple[int, int]]:
        """(request id, tokens emitted since), of those that have ended first."""
        out, self._last_tokens = self._last_tokens, []
        if self._columns:
            emitted, told = self._ints[at.EMITTED].tolist(), self._told_tokens
            for request_id, column in self._columns.items():
                if emitted[column] != told[column]:
                    out.append((request_id, emitted[column] - told[column]))
                    told[column] = emitted[column]
        return out

    def prefilled(self) -> list[tuple[int, int]]:
        """(request id, tokens with KV) of those whose prefill advanced, as `Step.prefilled`."""
        out, self._last_prefilled = self._last_prefilled, []
        if self._columns:
            prefilled, told = self._ints[at.PREFILLED].tolist(), self._told_prefilled
            for request_id, column in self._columns.items():
                if prefilled[column] != told[column]:
                    out.append((request_id, prefilled[column]))
                    told[column] = prefilled[column]
        return out

    def samples(self) -> list[Sample]:
        """The last few steps, at most NUM_SAMPLES with prefill and as many without."""
        out: list[Sample] = []
        for kind, counter in enumerate((at.NUM_PREFILL_SAMPLES, at.NUM_DECODE_SAMPLES)):
            num = int(self._totals[counter])
            for n in range(max(self._told_samples[kind], num - at.NUM_SAMPLES), num):
                start = kind * at.NUM_SAMPLES + n % at.NUM_SAMPLES
                start = at.SAMPLES + start * at.SAMPLE_SIZE
                p, d, k, a, step_s = self._floats[start : start + at.SAMPLE_SIZE].tolist()
                out.append((int(p), int(d), int(k), a, step_s))
            self._told_samples[kind] = num
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
        ended until its end was told, and once more."""
        column = self._columns.get(request_id)
        if column is None:
            told = self._cached_before.get(request_id, 0)
            return self._cached.get(request_id, told)
        return 0 if self._seating is None else self._seating.num_cached(column)

    def num_emitted(self, request_id: int) -> int:
        """Tokens that a request has given here, by the steps that have ended; 0 of one that is not
        here."""
        column = self._columns.get(request_id)
        return 0 if column is None else int(self._ints[at.EMITTED, column])

    def timings(self, request_id: int) -> tuple[float, float]:
        """(queue_s, prefill_s) of a request that has begun, as `StepTimings` has them; nan where
        it is not known."""
        return 0.0, nan

    # how it gets on

    def _run(self, now_s: float) -> None:
        if not self._totals[at.NUM_PRESENT]:
            return
        while True:
            code = kernels.run(self._ints, self._floats, self._log, now_s, False)
            if self._totals[at.NUM_LOGGED]:
                self._read_log()
            if code == at.RESTS:
                return
            self._next_s = None
            if self._seating is None:
                continue
            if code == at.WANTS_PLACE:
                self._seating.begin(self._ints, self._floats)
            elif code == at.WANTS_PREEMPTION:
                self._seating.preempt(self._ints)
            elif code == at.WANTS_ROOM:
                column = self._seating.make_room(self._ints)
                if column >= 0:
                    self._note_end(column, float(self._floats[at.CLOCK]))
                    self._take_out(column)

    def _read_log(self) -> None:
        """Take note of what happened; columns of those that have left are free again."""
        num, self._totals[at.NUM_LOGGED] = int(self._totals[at.NUM_LOGGED]), 0
        self._next_s = None
        left: list[int] = []
        for at_s, number, kind in self._log[:num].tolist():
            column = int(number)
            if kind == at.HAS_FIRST:
                self._ended.append((self._requests[column], at_s, False))
                continue
            left.append(column)
            if kind == at.HAS_ENDED:
                self._note_end(column, at_s)
        if self._seating is not None and left:
            # a step's ends by sequence id, then what was cancelled meanwhile, as in the loop
            seq_ids, rest = self._ints[at.SEQ_ID], self._ints[at.LEFT]
            gone = [c for c in self._cancelled if rest[c] > 0]
            ends = sorted((c for c in left if c not in gone), key=lambda c: int(seq_ids[c]))
            self._seating.leave(self._ints, ends + gone)
        self._cancelled = [c for c in self._cancelled if c not in left]
        self._free += left

    def _note_end(self, column: int, at_s: float) -> None:
        request_id = self._requests[column]
        self._ended.append((request_id, at_s, True))
        num_cached = self.num_cached(request_id)
        if num_cached:
            self._cached[request_id] = num_cached
        del self._columns[request_id]
        num_new = int(self._ints[at.EMITTED, column]) - self._told_tokens[column]
        if num_new:
            self._last_tokens.append((request_id, num_new))
        prefilled = int(self._ints[at.PREFILLED, column])
        if prefilled != self._told_prefilled[column]:
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
        np.copyto(self._ahead, self._ints)
        floats = self._floats
        state = floats[: at.NUM_STATE].copy()
        code = kernels.run(self._ahead, floats, self._log, inf, True)
        clock_s, notable_s = float(floats[at.CLOCK]), float(floats[at.NOTABLE_AT])
        floats[: at.NUM_STATE] = state
        if code == at.RESTS:
            return inf
        return notable_s if code == at.HAS_NOTABLE else nextafter(clock_s, inf)

    def _grow(self) -> None:
        """Room for twice as many."""
        num = self._ints.shape[1]
        self._ints = np.concatenate((self._ints, np.zeros_like(self._ints)), axis=1)
        self._ahead = np.zeros_like(self._ints)
        self._totals = self._ints[at.TOTALS]
        for values in (self._requests, self._told_tokens, self._told_prefilled):
            values.extend([0] * num)
        self._keys.extend([(0, 0)] * num)
        self._free.extend(range(2 * num - 1, num - 1, -1))
