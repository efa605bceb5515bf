"""The engine loop on a fake engine: sharing, order, limits, ends, and what it reports."""

from __future__ import annotations

from typing import Any

import llguidance
import pytest

from fmedge.errors import StepAbortedError
from fmedge.replica.loop import EngineLoop
from fmedge.replica.protocol import (
    Embed,
    Embedded,
    Failed,
    SequenceTokens,
    Step,
    Submit,
    WorkerMessage,
)
from fmedge.sched.steps import StepLimits
from fmedge.types import Grammar, SamplingParams
from tests.fakes import EOG, FakeEngine, pack, tokens_alone

MAX_STEPS = 2000


class Driver:
    """A loop on a fake engine, and everything it said."""

    def __init__(self, engine: FakeEngine | None = None, **kwargs: Any) -> None:
        self.engine = engine or FakeEngine(slots=4, ctx_size=256, batch_size=256)
        self.steps: list[Step] = []
        self.tokens: dict[int, list[int]] = {}
        self.ends: dict[int, SequenceTokens] = {}
        self.firsts: dict[int, SequenceTokens] = {}
        self.failed: dict[int, Failed] = {}
        self.embedded: dict[int, Embedded] = {}
        self.order: list[int] = []  # by first token
        self.loop = EngineLoop(self.engine, self._emit, clock=self.engine.clock, **kwargs)

    def _emit(self, message: WorkerMessage) -> None:
        match message:
            case Step():
                self.steps.append(message)
                for part in message.sequences:
                    self.tokens.setdefault(part.request_id, []).extend(part.tokens)
                    if part.request_id not in self.firsts:
                        self.firsts[part.request_id] = part
                        self.order.append(part.request_id)
                    if part.finish is not None:
                        self.ends[part.request_id] = part
            case Failed():
                self.failed[message.request_id] = message
            case Embedded():
                self.embedded[message.request_id] = message

    def submit(self, request_id: int, prompt: list[int], max_tokens: int = 8, **kw: Any) -> None:
        emitted = kw.pop("emitted", [])
        kw.setdefault("ignore_eos", True)
        self.loop.submit(
            Submit(
                request_id=request_id,
                tokens=pack(prompt + emitted),
                num_prompt_tokens=len(prompt),
                max_tokens=max_tokens,
                **kw,
            )
        )

    def run(self, num_steps: int = MAX_STEPS) -> None:
        for _ in range(num_steps):
            if not self.loop.run_step():
                return
        assert num_steps < MAX_STEPS, "the loop did not come to rest"

    def num_prefilled(self) -> int:
        return sum(step.num_prefill_tokens for step in self.steps)


def prompt(start: int, length: int) -> list[int]:
    return [3 + (start * 50 + i) % 250 for i in range(length)]


def test_equal_prompts_are_prefilled_once() -> None:
    driver = Driver(limits=StepLimits(max_tokens=20))
    for i in range(4):
        driver.submit(i, prompt(0, 100), sampling=SamplingParams(seed=i))
    driver.run()
    assert driver.num_prefilled() == 100 + 3
    assert len(driver.engine.copies) == 3
    assert [driver.firsts[i].num_cached_tokens for i in range(4)] == [0, 99, 99, 99]
    assert len({tuple(driver.tokens[i]) for i in range(4)}) == 4


def test_a_prefix_is_copied_from_a_sequence_that_decodes() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 60), 30)
    driver.run(5)
    driver.submit(1, prompt(0, 60) + driver.tokens[0][:2] + prompt(1, 4))
    driver.run()
    assert driver.firsts[1].num_cached_tokens == 62


def test_a_conversation_goes_on_in_place() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 60), 10)
    driver.run()
    driver.submit(1, prompt(0, 60) + driver.tokens[0] + prompt(1, 4))
    driver.run()
    assert driver.firsts[1].num_cached_tokens == 69  # the last output token was never computed
    assert driver.engine.copies == []


def test_a_follower_does_not_outlive_its_leader() -> None:
    driver = Driver(limits=StepLimits(max_tokens=16))
    driver.submit(0, prompt(0, 120))
    driver.submit(1, prompt(0, 120))
    driver.run(2)
    assert 1 not in driver.tokens
    driver.loop.cancel((0,))
    driver.run()
    assert driver.ends[1].finish == "length"
    assert 0 not in driver.tokens
    assert driver.num_prefilled() == 120  # what the leader had computed was not lost


def test_a_more_urgent_follower_waits_for_nobody() -> None:
    driver = Driver(limits=StepLimits(max_tokens=16))
    driver.submit(0, prompt(0, 120))
    driver.run(1)
    driver.submit(1, prompt(0, 120), priority=1)
    driver.run()
    assert driver.order == [1, 0]


def test_strangers_are_not_held_back() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 100))
    driver.submit(1, prompt(0, 100))
    driver.submit(2, prompt(2, 20))
    driver.run(1)
    assert set(driver.tokens) == {0, 2}


@pytest.mark.parametrize("keys", [("a", "b"), ("", "a"), ("a", "")])
def test_cache_keys_share_nothing(keys: tuple[str, str]) -> None:
    driver = Driver()
    for i, key in enumerate(keys):
        driver.submit(i, prompt(0, 60), cache_key=key)
        driver.run()
    assert driver.num_prefilled() == 120
    assert driver.engine.copies == []


def test_cache_prompt_off_neither_takes_nor_leaves() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 60), cache_prompt=False)
    driver.run()
    assert driver.engine.cells_used == 0
    driver.submit(1, prompt(0, 60))
    driver.run()
    driver.submit(2, prompt(0, 60), cache_prompt=False)
    driver.run()
    assert driver.num_prefilled() == 180


def test_clear_cache_forgets() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 60), cache_key="a")
    driver.submit(1, prompt(1, 60), cache_key="b")
    driver.run()
    driver.loop.clear_cache("a")
    driver.submit(2, prompt(0, 60), cache_key="a")
    driver.submit(3, prompt(1, 60), cache_key="b")
    driver.run()
    assert [driver.firsts[i].num_cached_tokens for i in (2, 3)] == [0, 59]


def test_waiting_goes_by_priority_then_arrival() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=64))
    driver.submit(0, prompt(0, 4))
    driver.run(1)
    for i, priority in ((1, 0), (2, 1), (3, 0), (4, 2)):
        driver.submit(i, prompt(i, 4), priority=priority)
    driver.run()
    assert driver.order == [0, 4, 2, 1, 3]


def test_the_queue_has_a_limit() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=64), max_waiting=2)
    for i in range(4):
        driver.submit(i, prompt(i, 4))
    assert {i: f.code for i, f in driver.failed.items()} == {2: "overloaded", 3: "overloaded"}
    driver.run()
    assert set(driver.ends) == {0, 1}


def test_cancelling_takes_effect_before_the_next_step() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=64))
    driver.submit(0, prompt(0, 4), 50)
    driver.submit(1, prompt(1, 4))
    driver.run(3)
    num_tokens = len(driver.tokens[0])
    driver.loop.cancel((0, 99))
    driver.run(1)
    assert len(driver.tokens[0]) == num_tokens
    assert driver.tokens[1]
    driver.run()
    assert 0 not in driver.ends


def test_full_kv_preempts_the_least_urgent_and_resumes_it() -> None:
    engine = FakeEngine(slots=3, ctx_size=128, kv_unified=True, kv_tokens=190, batch_size=128)
    driver = Driver(engine)
    prompts = [prompt(i, 20) for i in range(3)]
    for i, priority in enumerate((0, -1, 1)):
        driver.submit(i, prompts[i], 80, priority=priority, ignore_eos=False)
    driver.run()
    assert sum(step.num_preempted for step in driver.steps) > 0
    for i in range(3):
        tokens, finish = tokens_alone(prompts[i], 80, ctx_size=128)
        assert driver.tokens[i] == tokens
        assert driver.ends[i].finish == finish


def test_retained_prefixes_go_before_anybody_is_preempted() -> None:
    engine = FakeEngine(slots=2, ctx_size=128, kv_unified=True, kv_tokens=130, batch_size=128)
    driver = Driver(engine)
    driver.submit(0, prompt(0, 60), 2)
    driver.run()
    driver.submit(1, prompt(1, 60), 40)
    driver.run()
    assert sum(step.num_preempted for step in driver.steps) == 0
    assert len(driver.tokens[1]) == 40


def test_kv_too_small_for_one_ends_it_by_length() -> None:
    driver = Driver(FakeEngine(slots=2, ctx_size=128, kv_unified=True, kv_tokens=40))
    driver.submit(0, prompt(0, 20), 100)
    driver.run()
    assert driver.ends[0].finish == "length"
    assert len(driver.tokens[0]) == 21


def test_the_context_ends_a_sequence() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=32))
    driver.submit(0, prompt(0, 30), 100)
    driver.submit(1, prompt(0, 32), 100)
    driver.submit(2, [], 100)
    driver.run()
    assert len(driver.tokens[0]) == 2
    assert driver.ends[0].finish == "length"
    assert "32 tokens" in driver.failed[1].message
    assert driver.failed[1].code == driver.failed[2].code == "invalid"


def test_stop_tokens_end_it_and_are_not_emitted() -> None:
    free = Driver()
    free.submit(0, prompt(0, 8), 12)
    free.run()
    fourth = free.tokens[0][3]
    driver = Driver()
    driver.submit(0, prompt(0, 8), 12, stop_token_ids=(fourth,))
    driver.run()
    first = free.tokens[0].index(fourth)
    assert driver.tokens[0] == free.tokens[0][:first]
    assert driver.ends[0].finish == "stop"


def test_min_tokens_holds_the_end_off() -> None:
    stops = tuple(range(3, 256))
    driver = Driver()
    driver.submit(0, prompt(0, 8), 12, stop_token_ids=stops, ignore_eos=False)
    driver.submit(1, prompt(0, 8), 12, stop_token_ids=stops, ignore_eos=False, min_tokens=5)
    driver.run()
    assert driver.tokens[0] == []
    assert len(driver.tokens[1]) == 5
    assert driver.ends[1].finish == "stop"


def test_ignore_eos_never_draws_it() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=2048))
    driver.submit(0, prompt(0, 8), 600)
    driver.run()
    assert len(driver.tokens[0]) == 600
    assert EOG not in driver.tokens[0]


def test_a_resumed_sequence_goes_on_where_it_was() -> None:
    whole = Driver()
    whole.submit(0, prompt(0, 8), 10)
    whole.run()
    for cut in range(1, 11):
        driver = Driver()
        driver.submit(0, prompt(0, 8), 10, emitted=whole.tokens[0][:cut])
        driver.run()
        assert driver.tokens.get(0, []) == whole.tokens[0][cut:]
        assert driver.ends[0].finish == "length"


def test_logprobs_come_with_their_tokens() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 8), 3, sampling=SamplingParams(top_logprobs=2))
    driver.submit(1, prompt(1, 8), 3)
    driver.run()
    for step in driver.steps:
        for part in step.sequences:
            if part.request_id == 1:
                assert part.logprobs is None
                continue
            assert part.logprobs is not None
            assert [lp.top[0][0] for lp in part.logprobs] == list(part.tokens)


def _regex(pattern: str) -> Grammar:
    return Grammar(llguidance.LLMatcher.grammar_from_regex(pattern))


def test_a_grammar_constrains_and_ends_the_output() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 8), 40, grammar=_regex("(yes|no), [0-9]{3}"), ignore_eos=False)
    driver.submit(1, prompt(0, 8), 6)
    driver.run()
    text = bytes(driver.tokens[0]).decode()
    assert text[:-5] in ("yes", "no")
    assert text[-5:-3] == ", "
    assert text[-3:].isdigit()
    assert driver.ends[0].finish == "stop"
    assert len(driver.tokens[1]) == 6
    driver.submit(2, prompt(0, 8), 40, grammar=_regex("(yes|no), [0-9]{3}"), emitted=list(b"no,"))
    driver.run()
    assert bytes(driver.tokens[2][:1]) == b" "
    assert len(driver.tokens[2]) == 4
    driver.loop.close()


def test_a_grammar_that_cannot_be_followed_fails_its_request_alone() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 8), 8, grammar=Grammar("start: nowhere"))
    driver.submit(1, prompt(0, 8), 8, grammar=_regex("[0-9]+"), emitted=list(b"x"))
    driver.submit(2, prompt(0, 8), 8)
    driver.run()
    assert {i: f.code for i, f in driver.failed.items()} == {0: "invalid", 1: "invalid"}
    assert driver.ends[2].finish == "length"
    driver.loop.close()


def test_bans_that_leave_a_grammar_nothing_end_it() -> None:
    driver = Driver()
    driver.submit(0, prompt(0, 8), 8, grammar=_regex("ab?"), min_tokens=7, ignore_eos=False)
    driver.run()
    assert driver.ends[0].finish == "stop"
    driver.loop.close()


def test_an_embedding_gets_the_first_idle_id() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=64))
    driver.submit(0, prompt(0, 4), 3)
    driver.submit(1, prompt(1, 4), 3)
    driver.run(1)
    driver.loop.embed(Embed(request_id=9, tokens=pack([5, 6])))
    driver.run(2)
    assert 0 in driver.ends
    driver.run(1)
    assert driver.embedded[9] == Embedded(9, pack([5, 6]), 2)
    driver.run()
    assert 1 in driver.ends
    driver.loop.embed(Embed(request_id=10, tokens=b""))
    assert driver.failed[10].code == "invalid"


def test_a_step_reports_what_it_did() -> None:
    driver = Driver(FakeEngine(slots=2, ctx_size=64, batch_size=64))
    driver.submit(0, prompt(0, 10), 4)
    driver.run(2)
    driver.submit(1, prompt(1, 6), 4)
    driver.run(1)
    first, second, third = driver.steps
    assert (first.num_prefill_tokens, first.num_decode_seqs) == (10, 0)
    assert first.prefill_attention == 50
    assert (second.num_prefill_tokens, second.num_decode_seqs, second.num_kv_tokens) == (0, 1, 10)
    assert (third.num_prefill_tokens, third.num_decode_seqs, third.num_kv_tokens) == (6, 1, 11)
    assert third.prefill_attention == 18
    assert third.kv_tokens_used == 12 + 6
    assert (third.num_running, third.num_waiting) == (2, 0)
    assert third.step_s == pytest.approx(2 * 0.003 + 7 * 0.0005)


def test_timings_of_a_finished_sequence() -> None:
    driver = Driver(FakeEngine(slots=1, ctx_size=64))
    driver.submit(0, prompt(0, 10), 4)
    driver.submit(1, [*prompt(0, 10), 9], 4)
    driver.run()
    first, second = driver.ends[0].timings, driver.ends[1].timings
    assert first is not None
    assert second is not None
    assert (first.num_prefill_tokens, first.num_decode_tokens) == (10, 4)
    assert first.queue_s == 0
    assert first.prefill_s == pytest.approx(0.003 + 10 * 0.0005)
    assert first.decode_s == pytest.approx(3 * 0.0035)
    assert second.queue_s == pytest.approx(first.prefill_s + first.decode_s)
    assert second.num_cached_tokens == 10
    assert second.num_prefill_tokens == 1


def test_long_prompts_do_not_stall_those_that_decode() -> None:
    engine = FakeEngine(slots=9, ctx_size=2100, batch_size=2048, ubatch_size=512)
    driver = Driver(engine)
    for i in range(8):
        driver.submit(i, prompt(i, 8), 200)
    driver.run(20)
    num_before = len(driver.steps)
    driver.submit(8, [3 + i % 200 for i in range(2000)], 2)
    while 8 not in driver.ends:
        driver.run(1)
    during = driver.steps[num_before:]
    assert max(step.step_s for step in during) <= 0.1
    assert all(step.num_decode_seqs >= 8 for step in during)
    assert len(during) < 25


def test_a_gap_between_streams_costs_no_pass() -> None:
    engine = FakeEngine(slots=4, ctx_size=128, batch_size=128)
    driver = Driver(engine)
    for i, max_tokens in enumerate((30, 4, 30, 30)):
        driver.submit(i, prompt(i, 8), max_tokens)
    driver.run(6)
    assert set(driver.ends) == {1}
    num_before = engine.num_passes
    driver.run(10)
    assert engine.num_passes - num_before == 10
    driver.submit(4, prompt(1, 8) + driver.tokens[1] + [9])  # the idle stream lost nothing
    driver.run()
    assert driver.firsts[4].num_cached_tokens == 11


def test_an_aborted_step_is_done_again() -> None:
    engine = FakeEngine(slots=2, ctx_size=128)
    driver = Driver(engine)
    prompts = [prompt(0, 20), prompt(1, 20)]
    aborts = iter([True, False, True, False, False, True])

    def abort_half_way(engine: FakeEngine) -> None:
        if next(aborts, False):
            seq, _, tokens, _ = engine.batch.entries[0]
            engine.write(seq, tokens)
            raise StepAbortedError("aborted")

    engine.on_step = abort_half_way
    for i in range(2):
        driver.submit(i, prompts[i], 8, ignore_eos=False)
    driver.run()
    for i in range(2):
        assert driver.tokens[i] == tokens_alone(prompts[i], 8, ctx_size=128)[0]


def test_periods_tile_the_time_in_which_there_is_work() -> None:
    """Also what happens between steps belongs to one of them; idling belongs to none."""
    driver = Driver(FakeEngine(slots=2, ctx_size=256, batch_size=64))
    engine = driver.engine
    engine.now_s = 5.0
    driver.submit(0, prompt(0, 100), 6)
    between_s = 0.25
    while driver.loop.run_step():
        engine.now_s += between_s
    busy_s = engine.now_s - between_s - 5.0  # nothing follows the last step
    assert sum(step.period_s for step in driver.steps) == pytest.approx(busy_s)
    assert driver.steps[0].period_s == pytest.approx(driver.steps[0].step_s)
    assert driver.steps[1].period_s == pytest.approx(driver.steps[1].step_s + between_s)
    engine.now_s += 60.0
    driver.submit(1, prompt(1, 10), 2)
    num_before = len(driver.steps)
    driver.run(1)
    assert driver.steps[num_before].period_s == pytest.approx(driver.steps[num_before].step_s)


def test_an_embedding_is_in_no_steps_period() -> None:
    driver = Driver()
    engine = driver.engine
    driver.submit(0, prompt(0, 10), 4)
    driver.run(2)
    driver.loop.embed(Embed(request_id=9, tokens=pack(prompt(1, 8))))

    def embed(tokens: bytes, seq: int, plain: Any = engine.embed) -> bytes:
        engine.now_s += 30.0
        return plain(tokens, seq)

    engine.embed = embed  # type: ignore[method-assign]
    driver.run()
    assert 9 in driver.embedded
    assert all(step.period_s < 1.0 for step in driver.steps)


def test_steps_tell_how_far_each_prefill_is_and_at_what_rates() -> None:
    driver = Driver(limits=StepLimits(max_tokens=64))
    driver.submit(0, prompt(0, 20), 30)
    driver.run(2)
    driver.submit(7, prompt(0, 10) + prompt(1, 90), 4)
    driver.run()
    ends = [pair for step in driver.steps for pair in step.prefilled if pair[0] == 7]
    assert ends[-1] == (7, 100)
    assert [pair[1] for pair in ends] == sorted({pair[1] for pair in ends})
    chunks = sum(step.num_prefill_tokens for step in driver.steps)
    assert chunks == 20 + 100 - driver.firsts[7].num_cached_tokens
    assert all(step.rates[0] > 0 for step in driver.steps if step.num_prefill_tokens)
    assert driver.steps[-1].rates == (0.0, 0.0)  # most steps only decode: they say nothing new
