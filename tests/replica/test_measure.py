"""Designed steps on the fake engine: what is timed is what was asked for, and nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.errors import NativeError
from fmedge.replica.loop import EngineLoop
from fmedge.replica.measure import (
    CHUNKS_PER_VISIT,
    DECODES_PER_VISIT,
    LONGEST_STEP_S,
    MAX_DECODES_PER_VISIT,
    ROUNDS,
    measure,
)
from fmedge.replica.protocol import Measure, Measured, Step, WorkerMessage
from tests.fakes import FakeEngine

NUM_WHOLE_ROUNDS = ROUNDS.count(1.0)

Points = tuple[tuple[int, int, int], ...]


class Run:
    """One measuring on a fake engine; each step checked against what the engine really held."""

    def __init__(
        self,
        engine: FakeEngine,
        points: Points,
        *,
        max_s: float = 1e6,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engine = engine
        self.steps: list[Step] = []
        self.depths: list[int] = []  # of what decoded, by engine step: K
        engine.on_step = self._look
        self.measured: Measured = measure(
            Measure(points, max_s),
            engine,
            self._emit,
            run_step=EngineLoop.run_step,
            is_interrupted=is_interrupted,
            clock=engine.clock,
        )

    def _look(self, engine: FakeEngine) -> None:
        for seq, pos, _, _ in engine.batch.entries:
            assert engine.seq_len(seq) == pos

    def _emit(self, message: WorkerMessage) -> None:
        assert isinstance(message, Step)
        self.steps.append(message)
        ids = [part.request_id for part in message.sequences] + [i for i, _ in message.prefilled]
        assert ids
        assert max(ids) < 0

    def shapes(self) -> set[tuple[int, int]]:
        return {(p, d) for _, p, d, _, _ in self.measured.samples}

    def of(self, num_prefill: int, num_decoding: int) -> list[tuple[Any, ...]]:
        return [s for s in self.measured.samples if s[1:3] == (num_prefill, num_decoding)]


POINTS: Points = (
    (0, 1, 16), (16, 0, 0), (0, 4, 16), (64, 0, 16), (0, 2, 128), (32, 3, 64), (0, 4, 200),
)  # fmt: skip


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"kv_unified": True, "kv_tokens": 2500},
        {"can_cut": False},
        {"pass_s": 0.0, "token_s": 0.00001},
    ],
    ids=["streams", "unified", "recurrent", "fast"],
)
def test_each_point_is_timed_in_each_round_and_the_engine_is_left_empty(
    kwargs: dict[str, Any],
) -> None:
    engine = FakeEngine(slots=4, ctx_size=512, batch_size=256, **kwargs)
    run = Run(engine, POINTS)
    assert run.measured.ended == "complete"
    for num_prefill, num_decoding, depth in POINTS:
        samples = run.of(num_prefill, num_decoding)
        per_visit = 1 if num_prefill else DECODES_PER_VISIT
        assert len(samples) >= NUM_WHOLE_ROUNDS * per_visit
        at_depth = [
            s
            for s in samples
            if num_decoding * depth
            <= s[3]
            <= num_decoding * (depth * 1.25 + 32 + MAX_DECODES_PER_VISIT)
        ]
        assert len(at_depth) >= NUM_WHOLE_ROUNDS * per_visit
    assert engine.cells_used == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.integers(0, 5), st.integers(0, 250)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(({}, {"kv_unified": True, "kv_tokens": 700}, {"can_cut": False})),
    st.sampled_from((1, 2, 4)),
)
def test_any_design_runs_to_its_end(
    points: list[tuple[int, int, int]], kwargs: dict[str, Any], slots: int
) -> None:
    engine = FakeEngine(slots=slots, ctx_size=256, batch_size=128, token_s=0.0001, **kwargs)
    run = Run(engine, tuple(points))
    assert run.measured.ended == "complete"
    assert engine.cells_used == 0
    if not kwargs:
        for num_prefill, num_decoding, depth in points:
            num_decoding = min(num_decoding, slots - (num_prefill > 0))
            num_prefill = min(num_prefill, 128 - num_decoding)
            has_room = max(depth, 4) + max(num_prefill, MAX_DECODES_PER_VISIT) + 3 <= 256
            if has_room and num_prefill + num_decoding:
                assert (num_prefill, num_decoding) in run.shapes()


def test_a_samples_time_is_that_of_its_step_and_its_kv_is_real() -> None:
    engine = FakeEngine(slots=4, ctx_size=512, batch_size=256)
    run = Run(engine, POINTS)
    for period_s, num_prefill, num_decoding, num_kv, attention in run.measured.samples:
        # A pass costs as much as six tokens; throw-away tokens may run along.
        num_beside = period_s / 0.0005 - num_prefill - num_decoding
        assert num_beside == pytest.approx(round(num_beside), abs=1e-6)
        assert 6 <= round(num_beside) <= 6 * (num_decoding + num_prefill) + 4
        assert (num_kv > 0) == (num_decoding > 0)
        assert (attention > 0) == (num_prefill > 0)
    deep = [s for s in run.of(64, 0) if s[4] >= 64 * (16 + 32)]
    assert len(deep) >= NUM_WHOLE_ROUNDS * CHUNKS_PER_VISIT  # the past counts


def test_points_beyond_the_engine_are_cut_or_left_out() -> None:
    engine = FakeEngine(slots=2, ctx_size=128, batch_size=64)
    run = Run(engine, ((500, 8, 4), (0, 9, 8), (0, 1, 127), (0, 0, 5), (8, 2, 8), (0, 1, 5000)))
    assert run.measured.ended == "complete"
    assert {d for _, d in run.shapes()} <= {0, 1, 2}
    assert (0, 2) in run.shapes()
    assert (8, 1) in run.shapes()
    assert all(k <= 2 * 128 for *_, k, _ in run.measured.samples)


def test_a_context_too_small_for_anything_gives_nothing() -> None:
    run = Run(FakeEngine(slots=2, ctx_size=8, batch_size=8), ((0, 1, 4), (4, 0, 0)))
    assert run.measured == Measured()


def test_time_ends_it_and_steps_that_take_too_long_are_left_out() -> None:
    engine = FakeEngine(slots=4, ctx_size=4096, batch_size=2048, pass_s=0.05, token_s=0.01)
    points = ((0, 1, 16), (1024, 0, 0), (0, 4, 2000), (0, 2, 16), (64, 1, 16), (50, 0, 0))
    run = Run(engine, points, max_s=5.0)
    assert run.measured.ended == "time"
    assert engine.now_s < 5.0 + LONGEST_STEP_S
    assert all(s[0] <= LONGEST_STEP_S * 1.3 for s in run.measured.samples)
    assert {(0, 1), (0, 2)} <= run.shapes()
    assert max(p for p, _ in run.shapes()) < 1024
    assert max(k for *_, k, _ in run.measured.samples) < 2000  # 20 s of prefill
    assert engine.cells_used == 0


def test_whatever_arrives_ends_it_before_the_next_step() -> None:
    engine = FakeEngine(slots=4, ctx_size=512, batch_size=256)
    run = Run(engine, POINTS, is_interrupted=lambda: engine.num_steps >= 20)
    assert run.measured.ended == "interrupted"
    assert engine.num_steps == 20
    assert run.measured.samples
    assert engine.cells_used == 0


def test_an_engine_that_fails_says_so_and_keeps_what_was_measured() -> None:
    engine = FakeEngine(slots=4, ctx_size=512, batch_size=256)

    class Failing(Run):
        def _look(self, engine: FakeEngine) -> None:
            if engine.num_steps == 30:
                raise NativeError("the device is gone")

    run = Failing(engine, POINTS)
    assert run.measured.ended == "failed"
    assert "the device is gone" in run.measured.message
    assert run.measured.samples
    assert engine.cells_used == 0


def test_a_model_that_only_embeds_has_no_steps() -> None:
    engine = FakeEngine()
    engine.can_generate = False  # type: ignore[attr-defined]
    assert Run(engine, POINTS).measured.ended == "unable"
    assert engine.num_steps == 0


def test_a_pool_of_cells_is_never_overfull() -> None:
    engine = FakeEngine(slots=4, ctx_size=512, batch_size=256, kv_unified=True, kv_tokens=600)
    run = Run(engine, (*POINTS, (0, 4, 400), (0, 1, 400)))
    assert run.measured.ended == "complete"
    assert not any(step.num_preempted for step in run.steps)
    assert (0, 1) in run.shapes()
