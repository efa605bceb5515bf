"""The emulated engine under the real loop: a model's time to the digit, and cells as they are."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fmedge.errors import KvCacheFullError, NativeError
from fmedge.replica.emulated.engine import EmulatedEngine, VirtualClock, engine_info
from fmedge.replica.emulated.sampler import EmulatedSampler, Words
from fmedge.replica.loop import EngineLoop
from fmedge.replica.measure import measure
from fmedge.replica.protocol import Embed, Embedded, Failed, Measure, Step, Submit, WorkerMessage
from fmedge.sched.emulation import (
    LENGTH_SEED,
    NUM_FACTORS,
    NUM_LENGTHS,
    Noise,
    ReplicaSpec,
    output_length,
    step_factors,
)
from fmedge.sched.provision.demand import Spread
from fmedge.sched.steptime import Curve, StepModel
from fmedge.types import EngineSettings, Grammar, SamplingParams
from tests.fakes import EOG, NUM_VOCAB, FakeVocab, pack

STEPS = StepModel(
    base_s=0.012,
    prefill_base_s=0.001,
    prefill=Curve((0.0, 64.0, 512.0), (0.0, 0.01, 0.09)),
    decode=Curve((0.0, 8.0), (0.0, 0.004)),
    kv_s=1e-6,
    attention_s=2e-8,
    small_attention_s=3e-8,
    attention_tile=32,
    beside_decode_s=1e-4,
)


NO_NOISE = Noise()
STRING = {"type": "string"}


def spec_of(*, noise: Noise = NO_NOISE, steps: StepModel = STEPS, **engine: Any) -> ReplicaSpec:
    sizes = {"ctx_size": 256, "slots": 4, "batch_size": 128} | engine
    return ReplicaSpec(
        name="r0",
        model="m",
        engine=EngineSettings(model_path="", **sizes),
        steps=steps,
        noise=noise,
        num_ids=sizes["slots"] + (3 if sizes.get("kv_unified") else 0),
    )


class Run:
    """A loop on an emulated engine, with all that came of it."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self.clock = VirtualClock()
        self.engine = EmulatedEngine(spec, FakeVocab(), self.clock)
        self.ends: list[tuple[float, Step]] = []
        self.others: list[WorkerMessage] = []
        self.tokens: dict[int, list[int]] = {}
        self.finish: dict[int, str] = {}
        self.loop = EngineLoop(self.engine, self._emit, clock=self.clock)

    def _emit(self, message: WorkerMessage) -> None:
        if not isinstance(message, Step):
            self.others.append(message)
            return
        self.ends.append((self.clock.now_s, message))
        for part in message.sequences:
            self.tokens.setdefault(part.request_id, []).extend(part.tokens)
            if part.finish is not None:
                self.finish[part.request_id] = part.finish

    def submit(self, request_id: int, prompt: Sequence[int], num_tokens: int, **other: Any) -> None:
        fields: dict[str, Any] = {
            "tokens": pack(prompt),
            "num_prompt_tokens": len(prompt),
            "max_tokens": 1000,
            "sampling": SamplingParams(seed=LENGTH_SEED + num_tokens),
        }
        self.loop.submit(Submit(request_id=request_id, **fields | other))

    def to_the_end(self) -> None:
        for _ in range(100_000):
            if not self.loop.run_step():
                return
        raise AssertionError("the loop did not come to rest")


requests = st.lists(
    st.tuples(
        st.integers(0, 25),  # at step
        st.integers(1, 120),  # prompt tokens
        st.integers(0, 40),  # of them shared with all others
        st.integers(0, 30),  # output tokens
        st.integers(-1, 1),  # priority
        st.sampled_from([None, None, None, 3, 30]),  # cancelled at step
    ),
    min_size=1,
    max_size=12,
)
engines = st.sampled_from(
    [
        {},
        {"slots": 1},
        {"batch_size": 32},
        {"kv_unified": True},
        {"kv_unified": True, "kv_tokens": 200},
    ]
)


@settings(max_examples=80, deadline=None)
@given(requests, engines, st.sampled_from([Noise(), Noise(sigma=0.2, straggler_share=0.1, seed=3)]))
def test_time_is_the_sum_of_its_steps_and_every_answer_has_its_length(
    wanted: list[tuple[int, ...]], engine: dict[str, Any], noise: Noise
) -> None:
    spec = spec_of(noise=replace(noise, straggler_factor=4.0), **engine)
    run = Run(spec)
    cancelled = set()
    for step in range(32):
        for i, (at, num_prompt, num_shared, num_output, priority, end) in enumerate(wanted):
            prompt = [3] * min(num_shared, num_prompt)
            prompt += [3 + (i * 31 + j) % 250 for j in range(num_prompt - len(prompt))]
            if at == step:
                run.submit(i, prompt, num_output, priority=priority)
            if end == step and at <= step and i not in run.finish:
                run.loop.cancel((i,))
                cancelled.add(i)
        run.loop.run_step()
    run.to_the_end()
    now_s, factors = 0.0, step_factors(spec.noise, spec.name)
    timed = [(end_s, step) for end_s, step in run.ends if step.step_s > 0]
    assert run.engine.num_steps == len(timed)
    for number, (end_s, step) in enumerate(timed):
        model_s = STEPS.step_s(
            step.num_prefill_tokens,
            step.num_decode_seqs,
            step.num_kv_tokens,
            step.prefill_attention,
        )
        step_s = model_s * factors[number]
        now_s += step_s
        assert end_s == pytest.approx(now_s, rel=1e-12)
        assert step.step_s == pytest.approx(step_s, rel=1e-9)
    assert run.clock.now_s == pytest.approx(now_s, rel=1e-12)
    for i, (_, num_prompt, _, num_output, _, _) in enumerate(wanted):
        if i in cancelled:
            continue
        is_cut = engine.get("kv_tokens", 1000) < num_prompt + num_output + 1
        if is_cut and run.finish[i] == "length":
            assert len(run.tokens[i]) < num_output
        else:
            assert run.finish[i] == "stop"
            assert len(run.tokens[i]) == num_output
    run.loop.clear_cache()
    assert run.engine.num_cells_used == 0


def test_a_full_pool_changes_nothing_and_takes_no_time() -> None:
    clock = VirtualClock()
    engine = EmulatedEngine(spec_of(kv_unified=True, kv_tokens=10), FakeVocab(), clock)
    engine.batch.add(0, 0, pack([3] * 8), True)
    engine.step()
    at_s = clock.now_s
    engine.batch.clear()
    engine.batch.add(1, 0, pack([3] * 3), True)
    with pytest.raises(KvCacheFullError):
        engine.step()
    with pytest.raises(KvCacheFullError):
        engine.embed(pack([3] * 3), 1)
    assert (clock.now_s, engine.num_steps, engine.num_cells_used) == (at_s, 1, 8)
    engine.seq_copy(0, 1, 4)
    assert (engine.seq_len(1), engine.num_cells_used) == (4, 8)
    assert engine.seq_remove(0, 2)
    assert engine.num_cells_used == 4
    engine.batch.clear()
    engine.batch.add_token(0, 3, 5)
    with pytest.raises(NativeError, match="holds 2 tokens, not 3"):
        engine.step()


def test_a_recurrent_state_cannot_be_cut() -> None:
    spec = replace(spec_of(), is_recurrent=True)
    engine = EmulatedEngine(spec, FakeVocab(), VirtualClock())
    engine.batch.add(0, 0, pack([3] * 8), True)
    engine.step()
    assert not engine.seq_remove(0, 4)
    assert engine.seq_remove(0)
    assert engine.seq_len(0) == 0


def test_noise_is_the_same_each_time_and_another_for_each_replica() -> None:
    noise = Noise(sigma=0.1, straggler_share=0.01, straggler_factor=10.0, slowdown={"b": 2.0})
    factors = step_factors(noise, "a")
    assert np.array_equal(factors, step_factors(noise, "a"))
    assert not np.array_equal(factors, step_factors(replace(noise, seed=1), "a"))
    plain = step_factors(replace(noise, slowdown={}), "b")
    assert not np.array_equal(factors, plain)
    assert np.array_equal(step_factors(noise, "b"), 2 * plain)
    assert 0.001 < np.mean(factors > 5) < 0.03
    assert np.mean(step_factors(Noise(sigma=0.1), "a")) == pytest.approx(1.0, abs=0.01)


def test_noise_starts_over_after_its_last_factor() -> None:
    clock = VirtualClock()
    spec = spec_of(noise=Noise(sigma=0.3))
    engine = EmulatedEngine(spec, FakeVocab(), clock)
    took = []
    for _ in range(NUM_FACTORS + 2):
        start_s = clock.now_s
        engine.embed(pack([3, 4]), 0)
        took.append(clock.now_s - start_s)
    assert took[NUM_FACTORS:] == pytest.approx(took[:2], rel=1e-6)
    assert took[0] != pytest.approx(took[1], rel=1e-6)


@pytest.mark.parametrize("num_tokens", [0, 1, 17])
def test_a_seed_says_the_length(num_tokens: int) -> None:
    run = Run(spec_of())
    run.submit(1, [5, 6, 7], num_tokens)
    run.to_the_end()
    assert (len(run.tokens[1]), run.finish[1]) == (num_tokens, "stop")
    assert all(FakeVocab().piece(token).isalpha() for token in run.tokens[1])


def test_other_seeds_draw_lengths_of_the_spread() -> None:
    spread = Spread(100.0, 400.0)
    lengths = [output_length(seed, spread) for seed in range(20_000)]
    assert np.quantile(lengths, 0.5) == pytest.approx(100, rel=0.03)
    assert np.quantile(lengths, 0.95) == pytest.approx(400, rel=0.05)
    beyond = LENGTH_SEED + NUM_LENGTHS
    assert output_length(beyond - 1, spread) == NUM_LENGTHS - 1
    assert output_length(beyond, spread) < NUM_LENGTHS
    assert output_length(2**64 - 1, spread) >= 1


def test_the_end_waits_where_it_is_banned() -> None:
    run = Run(spec_of())
    run.submit(1, [5], 4, ignore_eos=True, max_tokens=20)
    run.submit(2, [6], 4, min_tokens=9)
    run.submit(3, [7], 30, max_tokens=12)
    run.to_the_end()
    lengths = {i: (len(run.tokens[i]), run.finish[i]) for i in run.tokens}
    assert lengths == {1: (20, "length"), 2: (9, "stop"), 3: (12, "length")}


def test_a_resumed_stream_goes_on_alike() -> None:
    whole = Run(spec_of())
    whole.submit(1, [5, 6], 20)
    whole.to_the_end()
    tokens = whole.tokens[1]
    resumed = Run(spec_of())
    resumed.submit(1, [5, 6, *tokens[:8]], 20, num_prompt_tokens=2)
    resumed.to_the_end()
    assert tokens[:8] + resumed.tokens[1] == tokens
    assert len(set(tokens)) > 1


def test_a_grammar_is_followed_to_its_end() -> None:
    run = Run(spec_of())
    run.submit(1, [5], 3, grammar=Grammar("start: /[ab]+c?/"))
    run.submit(2, [6], 500, grammar=Grammar('start: "yes" | "no"'))
    run.to_the_end()
    texts = {i: bytes(tokens) for i, tokens in run.tokens.items()}
    assert not run.others
    assert len(texts[1].rstrip(b"c")) >= 2
    assert set(texts[1].rstrip(b"c")) <= set(b"ab")
    assert texts[2] in (b"yes", b"no")
    assert run.finish == {1: "stop", 2: "stop"}
    run.loop.close()


def test_a_loop_says_when_it_could_only_wait_for_a_grammar() -> None:
    run = Run(spec_of())
    assert not run.loop.awaits_compiler
    is_free = threading.Event()
    run.loop._intake._compiler._executor = executor = ThreadPoolExecutor(1)
    executor.submit(is_free.wait, 30.0)
    run.submit(1, [5], 3, grammar=Grammar("start: /[ab]+/"))
    assert run.loop.awaits_compiler
    run.submit(2, [6], 30)
    assert not run.loop.awaits_compiler
    run.loop.run_step()
    assert not run.loop.awaits_compiler  # one decodes
    run.loop.cancel((2,))
    assert run.loop.awaits_compiler
    is_free.set()
    run.to_the_end()
    assert run.finish[1] == "stop"
    run.loop.close()


def test_json_that_is_overdue_is_brought_to_its_end() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "names": {"type": "array", "items": STRING}},
        "required": ["n", "names"],
    }
    run = Run(spec_of())
    for i in range(8):
        run.submit(i, [5], 20, grammar=Grammar(f"start: %json {json.dumps(schema)}"))
    run.to_the_end()
    for i in range(8):
        assert run.finish[i] == "stop"
        assert set(json.loads(bytes(run.tokens[i]))) >= {"n", "names"}
    run.loop.close()


def test_where_a_mask_and_bans_leave_nothing_nothing_is_drawn() -> None:
    words, spread = Words(FakeVocab()), Spread(5.0, 9.0)
    sampler = EmulatedSampler(words, spread, SamplingParams(seed=LENGTH_SEED + 9), 0, (ord("a"),))
    only_a = np.zeros(NUM_VOCAB, bool)
    only_a[ord("a")] = True
    mask = np.packbits(only_a, bitorder="little").tobytes()
    assert sampler.draw(mask) == -1
    sampler.set_banned(())
    assert sampler.draw(mask) == ord("a")
    only_a[EOG] = True
    assert sampler.draw(np.packbits(only_a, bitorder="little").tobytes()) == ord("a")


def test_words_are_plain_text_and_logprobs_a_distribution() -> None:
    words = Words(FakeVocab())
    assert words.eog == (EOG,)
    assert all(chr(token).isalpha() for token in words.tokens)
    params = SamplingParams(seed=LENGTH_SEED + 5, top_logprobs=4)
    sampler = EmulatedSampler(words, Spread(5.0, 9.0), params, 0, ())
    token = sampler.draw()
    logprobs = sampler.last_logprobs()
    assert logprobs is not None
    assert logprobs.top[0] == (token, logprobs.logprob)
    assert len({t for t, _ in logprobs.top}) == len(logprobs.top) == 4
    assert sum(math.exp(p) for _, p in logprobs.top) < 1
    plain = EmulatedSampler(words, Spread(5.0, 9.0), SamplingParams(), 0, ())
    plain.draw()
    assert plain.last_logprobs() is None


def test_an_embedding_is_its_texts_own_and_takes_a_prefills_time() -> None:
    run = Run(spec_of())
    for i, tokens in enumerate(([5, 6, 7], [5, 6, 7], [5, 6, 8])):
        run.loop.embed(Embed(request_id=i, tokens=pack(tokens)))
    run.to_the_end()
    vectors = []
    for message in run.others:
        assert isinstance(message, Embedded)
        vectors.append(np.frombuffer(message.vector, np.float32))
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])
    assert [len(v) for v in vectors] == [run.engine.info.num_embd] * 3
    assert run.clock.now_s == pytest.approx(3 * STEPS.step_s(3, 0, 0, 4.5), rel=1e-12)


@pytest.mark.parametrize("num_vocab", [NUM_VOCAB, 4])
def test_a_measured_profile_is_the_model(num_vocab: int) -> None:
    """With 4 tokens, prompts that are to differ begin alike."""
    steps = StepModel(base_s=0.01, prefill=Curve((0.0, 512.0), (0.0, 0.1)), kv_s=1e-6)
    spec = spec_of(steps=steps, ctx_size=1024, batch_size=512)
    clock = VirtualClock()
    info = replace(engine_info(spec, FakeVocab()), num_vocab=num_vocab)
    engine = EmulatedEngine(spec, FakeVocab(), clock, info=info)
    kinds = ((0, 1), (0, 4), (32, 0), (200, 0), (4, 0), (2, 0), (1, 0))
    points = tuple((p, d, depth) for depth in (16, 300, 700) for p, d in kinds)

    def ignore(message: WorkerMessage) -> None:
        assert not isinstance(message, Failed)

    measured = measure(
        Measure(points, 1e6),
        engine,
        ignore,
        run_step=EngineLoop.run_step,
        is_interrupted=lambda: False,
        clock=clock,
    )
    assert (measured.ended, measured.message) == ("complete", "")
    assert {sample[1:3] for sample in measured.samples} >= set(kinds)
    for period_s, p, d, k, a in measured.samples:
        assert period_s == pytest.approx(steps.step_s(p, d, k, a), rel=1e-9)
    assert engine.num_cells_used == 0
