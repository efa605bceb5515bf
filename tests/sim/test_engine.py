"""The simulated engine gives what the engine loop gives with an emulated one, to the step."""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from collections.abc import Sequence
from math import inf
from random import Random

import pytest
from msgspec import Struct

from fmedge.replica.emulated.engine import EmulatedEngine, VirtualClock
from fmedge.replica.loop import EngineLoop
from fmedge.replica.protocol import Failed, Step, Submit, WorkerMessage
from fmedge.sched.emulation import Noise, ReplicaSpec
from fmedge.sched.steps import StepRates
from fmedge.sched.steptime import Curve, StepModel
from fmedge.sim import gathering, kernels, queueing, stepping
from fmedge.sim.bank import Bank
from fmedge.sim.engine import MIN_COLUMNS, Engine
from fmedge.types import EngineSettings, SamplingParams, TokenLogprobs
from tests.fakes import EOG, FakeVocab, pack

MODEL = StepModel(
    base_s=0.012,
    prefill_base_s=0.001,
    prefill=Curve((0.0, 16.0, 2048.0), (0.0, 0.004, 0.5)),
    decode=Curve((0.0, 4.0, 64.0), (0.0, 0.002, 0.04)),
    kv_s=1e-5,
    attention_s=3e-6,
    beside_decode_s=1e-4,
)


NUM_CASES = 80


class Visit(Struct, frozen=True):
    """A request's stay: it arrives after_s after the visit before, and may be taken away. comes
    back: what was taken away is submitted again so much later, with what it got."""

    after_s: float
    prompt: tuple[int, ...]
    length: int
    is_stopped: bool
    priority: int
    cache_key: str
    is_shared: bool
    cancel_s: float | None
    back_s: float | None


_STEM = tuple(range(3, 70))


def drawn_visits(rng: Random) -> list[Visit]:
    """Up to a dozen requests, many of which share a stem of their prompts."""

    def gap() -> float:
        return rng.choice((0.0, rng.uniform(0.0, 0.4)))

    def maybe_gap(probability: float) -> float | None:
        return rng.uniform(0.0, 0.4) if rng.random() < probability else None

    shared = rng.choice((0.0, 0.5, 1.0))
    shortest, longest = rng.choice(((1, 20), (1, 60), (1, 150), (80, 150)))
    hurry = rng.choice((0.1, 1.0))
    stems = rng.choice(((0, 3), (0, 3, 20, 40, 60)))
    return [
        Visit(
            after_s=gap() * hurry,
            prompt=(
                1,
                *_STEM[: rng.choice(stems)],
                *(rng.randint(3, 8) for _ in range(rng.randint(0, 12))),
            ),
            length=rng.randint(shortest, longest),
            is_stopped=rng.random() < 0.5,
            priority=rng.choice((0, 0, 0, 1, -1)),
            cache_key=rng.choice(("", "", "a")),
            is_shared=rng.random() < shared,
            cancel_s=maybe_gap(0.3),
            back_s=maybe_gap(0.5),
        )
        for _ in range(rng.randint(1, 12))
    ]


def drawn_spec(rng: Random) -> ReplicaSpec:
    slots = rng.randint(1, 5)
    kv_unified = rng.random() < 0.5
    return ReplicaSpec(
        name="r",
        model="m",
        engine=EngineSettings(
            model_path="",
            ctx_size=rng.choice((81, 200)),
            slots=slots,
            kv_unified=kv_unified,
            kv_tokens=rng.choice((0, 60, 90, 150, 200)),
            batch_size=rng.choice((16, 64, 512)),
        ),
        steps=MODEL,
        noise=Noise(
            sigma=rng.choice((0.0, 0.2)),
            straggler_share=0.05,
            straggler_factor=3.0,
            seed=rng.randint(0, 3),
        ),
        num_ids=slots + rng.randint(0, 3),
        copy_bytes=0 if kv_unified else rng.choice((0, 1000, 100_000_000)),
        is_recurrent=not kv_unified and rng.random() < 0.2,
    )


class OwnTokens:
    """Samples a token that is its request's alone, up to a length; then the end."""

    def __init__(self, token: int, num_left: int) -> None:
        self._token = token
        self._num_left = num_left

    def draw(self, mask: bytes | memoryview | None = None) -> int:
        self._num_left -= 1
        return self._token if self._num_left >= 0 else EOG

    def last_logprobs(self) -> TokenLogprobs | None:
        return None

    def set_banned(self, tokens: Sequence[int], /) -> None:
        raise AssertionError("nothing is banned")


class Asked(Struct, frozen=True):
    """A submit, or (visit None) a cancel."""

    at_s: float
    request_id: int
    visit: Visit | None = None
    num_emitted: int = 0


class Told:
    """What an engine told: of each moment, tokens by request; first tokens and ends in order."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.tokens: dict[float, dict[int, int]] = {}
        self.prefilled: dict[float, dict[int, int]] = {}
        self.ended: dict[tuple[int, bool, int], float] = {}
        self.num_cached: dict[tuple[int, int], int] = {}
        self.timings: dict[tuple[int, int], tuple[float, float]] = {}  # queue_s, prefill_s
        self.steps: list[tuple[float, ...]] = []  # P, D, K, A, seconds
        self.num_preempted = 0
        self.rates = (0.0, 0.0)
        self.num_steps = 0
        self.busy_s = 0.0


def by_the_loop(spec: ReplicaSpec, wanted: Sequence[Visit]) -> Told:
    """The real loop over an emulated engine, in virtual time."""
    told = Told()
    clock = VirtualClock()
    engine = EmulatedEngine(spec, FakeVocab(), clock)
    lengths = {i: visit.length for i, visit in enumerate(wanted)}
    emitted: dict[int, int] = defaultdict(int)
    num_visits: dict[int, int] = defaultdict(int)
    here: set[int] = set()
    events: list[tuple[float, int, str]] = []

    def emit(message: WorkerMessage) -> None:
        assert not isinstance(message, Failed), message
        assert isinstance(message, Step)
        if message.step_s:
            told.steps.append(
                (
                    message.num_prefill_tokens,
                    message.num_decode_seqs,
                    message.num_kv_tokens,
                    message.prefill_attention,
                    message.step_s,
                )
            )
            told.prefilled[clock.now_s] = {
                i: num
                for i, num in message.prefilled
                if not any(e[0] < clock.now_s and e[1:] == (i, "cancel") for e in events)
            }
        told.num_preempted += message.num_preempted
        if any(message.rates):
            told.rates = message.rates
        counts = told.tokens.setdefault(clock.now_s, {})
        for part in message.sequences:
            i = part.request_id
            if any(e[0] < clock.now_s and e[1:] == (i, "cancel") for e in events):
                continue  # cancelled while the step ran: nothing more is told of it
            if part.tokens:
                counts[i] = counts.get(i, 0) + 1
                emitted[i] += 1
            if part.num_cached_tokens >= 0 and part.tokens:
                told.ended[i, False, num_visits[i]] = clock.now_s
                told.num_cached[i, num_visits[i]] = part.num_cached_tokens
            if part.finish is not None:
                assert part.timings is not None
                told.ended[i, True, num_visits[i]] = clock.now_s
                told.timings[i, num_visits[i]] = (part.timings.queue_s, part.timings.prefill_s)
                here.discard(i)

    def new_sampler(
        params: SamplingParams, num_vocab: int, history: bytes, num_emitted: int, banned: object
    ) -> OwnTokens:
        return OwnTokens(1000 + params.seed, lengths[params.seed] - num_emitted)

    loop = EngineLoop(engine, emit, clock=clock, new_sampler=new_sampler)
    at_s = 0.0
    for i, visit in enumerate(wanted):
        at_s += visit.after_s
        events.append((at_s, i, "submit"))
        if visit.cancel_s is not None:
            events.append((at_s + visit.cancel_s, i, "cancel"))
            if visit.back_s is not None:
                events.append((at_s + visit.cancel_s + visit.back_s, i, "submit"))
    events.sort(key=lambda event: event[0])

    def ask(at_s: float, i: int, what: str) -> None:
        if what == "cancel":
            if i in here:
                told.asked.append(Asked(at_s, i))
                here.discard(i)
                loop.cancel((i,))
            return
        visit = wanted[i]
        num_tokens = len(visit.prompt) + emitted[i]
        if num_visits[i] and (i, True, num_visits[i]) in told.ended:
            return
        if i in here or num_tokens >= spec.engine.ctx_size or emitted[i] >= visit.length:
            return
        num_visits[i] += 1
        here.add(i)
        told.asked.append(Asked(at_s, i, visit, emitted[i]))
        loop.submit(
            Submit(
                request_id=i,
                tokens=pack([*visit.prompt, *([1000 + i] * emitted[i])]),
                num_prompt_tokens=len(visit.prompt),
                max_tokens=visit.length + visit.is_stopped,
                sampling=SamplingParams(seed=i),
                cache_key=visit.cache_key,
                cache_prompt=visit.is_shared,
                priority=visit.priority,
            )
        )

    while True:
        while events and events[0][0] <= clock.now_s:
            ask(*events.pop(0))
        if not loop.run_step():
            if not events:
                break
            clock.now_s = max(clock.now_s, events[0][0])
    loop.close()
    return told


def by_the_engine(spec: ReplicaSpec, asked: Sequence[Asked], moments: Sequence[float]) -> Told:
    """The simulated engine, looked at at these moments; or (none) whenever it says."""
    told = Told()
    engine = Engine(spec)
    num_visits: dict[int, int] = defaultdict(int)
    left = list(moments)

    def look(at_s: float, since_s: float) -> None:
        engine.advance(at_s)
        for i, end_s, is_last in engine.ended():
            assert since_s - 1e-9 <= end_s <= at_s
            told.ended[i, is_last, num_visits[i]] = end_s
            if is_last:
                told.timings[i, num_visits[i]] = engine.timings(i)
            else:
                told.num_cached[i, num_visits[i]] = engine.num_cached(i)
        told.tokens[at_s] = dict(engine.tokens())
        told.prefilled[at_s] = dict(engine.prefilled())
        told.steps += engine.samples()

    def look_until(until_s: float) -> None:
        now_s = 0.0
        if moments:
            while left and left[0] <= until_s:
                now_s, before_s = left.pop(0), now_s
                look(now_s, before_s)
            return
        while engine.next_s <= until_s and engine.next_s < inf:
            assert engine.next_s > now_s
            now_s = engine.next_s
            look(now_s, now_s)

    for ask in asked:
        look_until(ask.at_s)
        visit = ask.visit
        if visit is None:
            look(ask.at_s, 0.0)
            engine.cancel(ask.at_s, ask.request_id)
            continue
        num_visits[ask.request_id] += 1
        engine.submit(
            ask.at_s,
            ask.request_id,
            len(visit.prompt) + ask.num_emitted,
            visit.length - ask.num_emitted,
            num_emitted=ask.num_emitted,
            priority=visit.priority,
            prompt=pack(visit.prompt) if visit.is_shared else b"",
            cache_key=visit.cache_key,
            is_stopped=visit.is_stopped,
        )
    look_until(inf)
    look(1e6, 0.0)
    assert engine.num_running == engine.num_waiting == 0
    told.num_preempted = engine.num_preempted
    told.rates = (engine.rates.prefill_s_per_token, engine.rates.decode_s)
    told.busy_s = engine.busy_s
    told.num_steps = engine.num_steps
    return told


def _totals(told: Told) -> dict[int, int]:
    totals: dict[int, int] = defaultdict(int)
    for counts in told.tokens.values():
        for i, num in counts.items():
            totals[i] += num
    return totals


@pytest.mark.parametrize("start", range(0, NUM_CASES, NUM_CASES // 4))
def test_it_gives_what_the_loop_gives(start: int) -> None:
    for seed in range(start, start + NUM_CASES // 4):
        rng = Random(seed)
        spec, wanted = drawn_spec(rng), drawn_visits(rng)
        try:
            compare(spec, wanted)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {spec} {wanted}") from error


def compare(spec: ReplicaSpec, wanted: Sequence[Visit]) -> None:
    true = by_the_loop(spec, wanted)
    watched = by_the_engine(spec, true.asked, sorted(true.tokens))
    for at_s, counts in true.tokens.items():
        assert watched.tokens[at_s] == counts, at_s
    is_so: dict[int, int] = {}
    is_told: dict[int, int] = {}
    for at_s in sorted(true.prefilled):
        is_so |= true.prefilled[at_s]
        is_told |= watched.prefilled[at_s]
        assert is_told == is_so, at_s
    assert set(watched.steps) <= set(true.steps)
    told = by_the_engine(spec, true.asked, ())
    for one in (watched, told):
        assert one.ended == pytest.approx(true.ended, abs=1e-9)
        assert _totals(one) == _totals(true)
        assert one.num_cached == true.num_cached
        for key, timings in true.timings.items():
            assert one.timings[key] == pytest.approx(timings, abs=1e-9)
        assert one.rates == pytest.approx(true.rates, rel=1e-9)
        assert one.num_steps == len(true.steps)
        assert one.busy_s == pytest.approx(sum(step[-1] for step in true.steps))
        assert one.num_preempted == true.num_preempted


def spec_of(slots: int = 4) -> ReplicaSpec:
    return ReplicaSpec(
        name="r",
        model="m",
        engine=EngineSettings(model_path="", slots=slots, ctx_size=400),
        steps=MODEL,
    )


def test_plain_functions_and_compiled_ones_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        rng = Random(seed)
        spec, wanted = drawn_spec(rng), drawn_visits(rng)
        asked = by_the_loop(spec, wanted).asked
        compiled = by_the_engine(spec, asked, ())
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "run", stepping.run)
            patch.setattr(kernels, "look_ahead", stepping.look_ahead)
            patch.setattr(kernels, "gather", gathering.gather)
            for name in ("put", "take_out", "send_back"):
                patch.setattr(kernels, name, getattr(queueing, name))
            plain = by_the_engine(spec, asked, ())
        assert plain.ended == compiled.ended
        assert plain.tokens == compiled.tokens


def test_hundreds_wait_and_end_in_order_of_priority_within_one_call() -> None:
    engine = Engine(spec_of(slots=1))
    for i in range(300):
        engine.submit(0.0, i, 20, 2, priority=i % 3)
    assert engine.num_waiting == 300
    engine.advance(1e9)
    ends = [i for i, _, is_last in engine.ended() if is_last]
    assert ends == sorted(range(300), key=lambda i: (-(i % 3), i))
    assert dict(engine.tokens()) == dict.fromkeys(range(300), 2)
    assert engine.next_s == inf
    assert engine.num_running == engine.num_waiting == 0


def test_an_end_by_the_models_own_token_takes_a_step_more() -> None:
    ends = []
    for is_stopped in (False, True):
        engine = Engine(spec_of())
        engine.submit(1.0, 7, 20, 3, is_stopped=is_stopped)
        engine.advance(100.0)
        assert engine.tokens() == [(7, 3)]
        assert [is_last for _, _, is_last in engine.ended()] == [False, True]
        ends.append(1.0 + engine.busy_s)
        assert engine.num_steps == 3 + is_stopped
    assert ends[1] - ends[0] == pytest.approx(MODEL.step_s(0, 1, 22))


def test_the_context_ends_what_would_go_on() -> None:
    engine = Engine(spec_of())
    engine.submit(0.0, 1, 390, 50, is_stopped=True)
    engine.advance(1e3)
    assert engine.tokens() == [(1, 10)]
    engine.submit(2e3, 2, 400, 5, num_emitted=20)
    assert engine.ended()[-1] == (2, 2e3, True)


def test_a_step_under_way_is_not_changed() -> None:
    alone = Engine(spec_of())
    alone.submit(0.0, 1, 300, 4)
    first_s = alone.next_s
    engine = Engine(spec_of())
    engine.submit(0.0, 1, 300, 4)
    engine.submit(first_s / 2, 2, 300, 4)
    assert engine.next_s == first_s
    engine.advance(first_s)
    assert engine.ended() == [(1, first_s, False)]
    assert engine.next_s > first_s + MODEL.step_s(300, 1)


def test_a_cached_prefix_is_told_until_the_end_was() -> None:
    engine = Engine(spec_of())
    prompt = pack(range(3, 103))
    engine.submit(0.0, 1, 100, 2, prompt=prompt)
    engine.advance(10.0)
    engine.submit(10.0, 2, 100, 2, prompt=prompt)
    engine.advance(20.0)
    assert [i for i, _, is_last in engine.ended() if is_last] == [1, 2]
    assert engine.num_cached(1) == 0
    assert engine.num_cached(2) == 99
    assert (2, 100) in engine.prefilled()


@pytest.mark.parametrize(
    ("num_tokens", "num_left", "prompt", "says"),
    [
        (400, 1, b"", "between 1 and 399 fit replica r"),
        (0, 1, b"", "a prompt of 0 tokens"),
        (10, 0, b"", "request 5 has no token left"),
        (10, 1, b"\0" * 4, "not as long"),
    ],
)
def test_what_cannot_run_is_said(num_tokens: int, num_left: int, prompt: bytes, says: str) -> None:
    engine = Engine(spec_of())
    with pytest.raises(ValueError, match=says):
        engine.submit(0.0, 5, num_tokens, num_left, prompt=prompt)
    assert engine.next_s == inf


def test_an_engine_takes_little_memory() -> None:
    tracemalloc.start()
    engines = [Engine(spec_of()) for _ in range(100)]
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_bytes < 100 * 60e3
    for i, engine in enumerate(engines):
        engine.submit(0.0, i, 20, 5)
    assert len({engine.next_s for engine in engines}) == 1


def test_a_bank_is_its_engines() -> None:
    specs = [drawn_spec(Random(seed)) for seed in range(5)]
    alone = [Engine(spec) for spec in specs]
    bank = Bank(specs)
    rng = Random(3)
    now_s, request_id, most_waiting = 0.0, 0, 0
    for turn in range(80):
        now_s += rng.uniform(0.0, 0.1)
        bank.advance(now_s)
        news = {one.index: one for one in bank.progress()}
        for index, engine in enumerate(alone):
            num_before = engine.num_steps
            engine.advance(now_s)
            assert (engine.num_steps > num_before) == (index in news)
            one = news.get(index)
            assert sorted(engine.tokens()) == sorted(one.tokens if one else [])
            assert sorted(engine.prefilled()) == sorted(one.prefilled if one else [])
            if one:
                assert one.stepped_s == engine.stepped_s
                assert StepRates(*one.rates) == engine.rates
            assert bank.engines[index].ended() == engine.ended()
            assert bank.engines[index].next_s == engine.next_s
        for _ in range(80 if turn == 20 else rng.randint(0, 3)):
            request_id += 1
            index = 0 if turn == 20 else rng.randrange(len(specs))
            num_tokens, num_left = rng.randint(1, 70), rng.randint(1, 60)
            prompt = pack(range(3, 3 + num_tokens)) if rng.random() < 0.5 else b""
            for engine in (alone[index], bank.engines[index]):
                engine.submit(now_s, request_id, num_tokens, num_left, prompt=prompt)
        most_waiting = max(most_waiting, *(engine.num_waiting for engine in alone))
    assert most_waiting > MIN_COLUMNS


def test_an_empty_bank_has_nothing_to_tell() -> None:
    bank = Bank(())
    bank.advance(1.0)
    assert bank.progress() == []
