"""Workloads that are drawn: their rates, lengths, prefixes, conversations and tasks are those that
were asked for."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.config.drawn import Arrivals, Process
from fmedge.errors import ConfigError
from fmedge.sim.arrivals import times
from fmedge.sim.load import load_workload, prompt_tokens
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise

LENGTHS = "prompt=512/2048,output=128/512"
TASKS = """
[sla.chat]
ttft_ms = 500

[[stream]]
rate_per_s = 2
duration_s = 60
prompt_tokens = 100
output_tokens = { p50 = 30, p95 = 90 }
sla = "chat"
api_key = "people"

[[workflow]]
name = "agent"
e2e_ms = 20000
rate_per_s = 1
duration_s = 60
prefix_tokens = 200
context_tokens = { p50 = 500, p95 = 1500 }
[[workflow.stage]]
name = "plan"
prompt_tokens = 300
output_tokens = 100
[[workflow.stage]]
name = "work"
calls = [1, 4]
prompt_tokens = 300
output_tokens = 100
tool_s = 2
[[workflow.stage]]
name = "check"
share = 0.5
prompt_tokens = 300
output_tokens = 100
[[workflow.stage]]
name = "write"
after = ["plan", "check"]
prompt_tokens = 300
output_tokens = 100
tool_s = { p50 = 0.5, p95 = 2 }
"""


def _load(folder: Path, text: str, **given: int) -> Workload:
    path = folder / "workload.toml"
    path.write_text(text)
    return load_workload(str(path), **given)


def _gaps(workload: Workload) -> np.ndarray:
    return np.diff([call.at_s for call in workload.calls])


def test_a_poisson_stream_has_its_rate_and_lengths():
    workload = load_workload(f"poisson:rate=5,duration=1000,{LENGTHS}")
    gaps = _gaps(workload)
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 5, rel=0.07)
    prompts = [call.num_prompt for call in workload.calls]
    outputs = [call.num_output for call in workload.calls]
    assert np.quantile(prompts, (0.5, 0.95)) == pytest.approx((512, 2048), rel=0.08)
    assert np.quantile(outputs, (0.5, 0.95)) == pytest.approx((128, 512), rel=0.08)
    assert workload.calls[0].at_s == 0


@pytest.mark.parametrize(("process", "cv"), [("gamma", 3.0), ("gamma", 0.5), ("uniform", 0.0)])
def test_gaps_vary_as_told(process: Process, cv: float):
    arrivals = Arrivals(process=process, rate_per_s=4, cv=cv or 1.0)
    gaps = np.diff(list(islice(times(arrivals, np.random.default_rng(1)), 40_000)))
    assert gaps.mean() == pytest.approx(1 / 4, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05, abs=1e-9)


def test_bursts_and_days():
    rng = np.random.default_rng(1)
    bursts = Arrivals(process="bursts", rate_per_s=1, burst_rate_per_s=20, off_s=90, on_s=10,
                      start_s=50, duration_s=20_000)  # fmt: skip
    at_s = np.array(list(times(bursts, rng))) - 50
    is_on = at_s % 100 >= 90
    assert np.count_nonzero(is_on) == pytest.approx(20 * 2000, rel=0.03)
    assert np.count_nonzero(~is_on) == pytest.approx(1 * 18_000, rel=0.05)
    day = Arrivals(process="diurnal", rate_per_s=5, period_s=100, amplitude=0.8, duration_s=10_000)
    at_s = np.array(list(times(day, rng)))
    phase = at_s % 100
    assert len(at_s) == pytest.approx(5 * 10_000, rel=0.03)
    trough = np.count_nonzero((phase < 5) | (phase > 95)) / 1000
    peak = np.count_nonzero((phase > 45) & (phase < 55)) / 1000
    assert trough == pytest.approx(5 * 0.2, rel=0.2)
    assert peak == pytest.approx(5 * 1.8, rel=0.05)


@given(
    process=st.sampled_from(["poisson", "gamma", "uniform", "bursts", "diurnal"]),
    rate=st.floats(0.01, 1000),
    start=st.floats(0, 100),
    duration=st.floats(0.01, 100),
    seed=st.integers(0, 1 << 40),
)
@settings(max_examples=60, deadline=None)
def test_arrivals_rise_within_their_time(process, rate, start, duration, seed):
    arrivals = Arrivals(
        process=process, rate_per_s=rate, start_s=start, duration_s=duration, cv=2.0,
        burst_rate_per_s=3 * rate, on_s=1.0, off_s=2.0, period_s=10.0,
    )  # fmt: skip
    found = list(islice(times(arrivals, np.random.default_rng(seed)), 2000))
    assert found == sorted(found)
    assert all(start <= at_s < start + duration for at_s in found)


def test_what_is_too_much_is_found_while_it_is_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fmedge.sim.parts.MAX_CALLS", 200)
    with pytest.raises(ConfigError, match="more than 200 requests"):
        load_workload("poisson:rate=5,duration=60,prompt=5,output=5")
    assert len(load_workload("poisson:rate=5,duration=60,prompt=5,output=5", requests=200).calls)


def test_a_stream_begins_alike_however_long_it_is():
    short = load_workload(f"gamma:cv=2,rate=5,{LENGTHS}", requests=700, seed=4)
    long = load_workload(f"gamma:cv=2,rate=5,{LENGTHS}", requests=1500, seed=4)
    assert long.calls[:700] == short.calls
    assert load_workload(f"gamma:cv=2,rate=5,{LENGTHS}", requests=700, seed=5) != short
    other = load_workload("gamma:cv=2,rate=5,prompt=9,output=9", requests=700, seed=4)
    assert [call.at_s for call in other.calls] == [call.at_s for call in short.calls]


def test_prefixes_are_shared_by_rank():
    workload = load_workload(
        "poisson:rate=5,prompt=50,output=5,prefix=300,prefixes=8,prefix_share=0.75,zipf=1",
        requests=8000,
    )
    with_prefix = [call for call in workload.calls if call.blocks]
    assert len(with_prefix) == pytest.approx(6000, rel=0.05)
    assert all(len(call.blocks) * workload.block_tokens == 320 for call in with_prefix)
    assert all(call.num_prompt == 370 for call in with_prefix)
    ranks = np.bincount([call.blocks[0] // 5 for call in with_prefix])
    expected = 1 / np.arange(1, 9)
    assert ranks / len(with_prefix) == pytest.approx(expected / expected.sum(), rel=0.12)


def test_turns_carry_on():
    workload = load_workload(
        "poisson:rate=5,requests=50,prompt=100/300,output=50,turns=4/9,think=3", seed=2
    )
    followers = [call for call in workload.calls if call.after]
    assert len(followers) > 50
    for place, call in enumerate(workload.calls):
        if not call.after:
            continue
        (before,) = call.after
        earlier = workload.calls[before]
        assert before < place
        assert call.at_s == pytest.approx(3)
        assert call.num_prompt > earlier.num_prompt + earlier.num_output
        first = prompt_tokens(earlier, before, workload.block_tokens, 5, 999)
        assert prompt_tokens(call, place, workload.block_tokens, 5, 999).startswith(first)


def test_tasks(tmp_path: Path):
    workload = _load(tmp_path, TASKS, seed=3)
    assert workload.workflows["agent"].e2e_s == 20
    roots = [call.at_s for call in workload.calls if not call.after]
    assert roots == sorted(roots)
    people = [call for call in workload.calls if call.api_key == "people"]
    assert all(call.promise == Promise(sla_class="chat", ttft_s=0.5) for call in people)
    tasks: dict[str, dict[str, list[Call]]] = {}
    for place, call in enumerate(workload.calls):
        assert all(before < place for before in call.after)
        if call.workflow:
            tasks.setdefault(call.instance, {}).setdefault(call.stage, []).append(call)
    assert 40 < len(tasks) < 80
    assert {len(stages["work"]) for stages in tasks.values()} == {1, 2, 3, 4}
    assert 0.3 < sum("check" in stages for stages in tasks.values()) / len(tasks) < 0.7
    for stages in tasks.values():
        (plan,), (write,) = stages["plan"], stages["write"]
        assert all(workload.calls[call.after[0]] == plan for call in stages["work"])
        assert all(call.at_s == pytest.approx(2) for call in stages["work"])
        # Without its check a task's answer waits for what the check would have waited for.
        before = stages.get("check", stages["work"])
        assert {workload.calls[n].stage for n in write.after} == {"plan", before[0].stage}
        assert write.is_last
        assert not plan.is_last
        context = plan.blocks
        assert all(call.blocks == context for of_stage in stages.values() for call in of_stage)
    first, second = (stages["plan"][0].blocks for stages in islice(tasks.values(), 2))
    assert first[:4] == second[:4]
    assert not set(first[4:]) & set(second[4:])


def test_tasks_stay_whole(tmp_path: Path):
    whole = _load(tmp_path, TASKS)
    part = _load(tmp_path, TASKS, skip=31, requests=50)
    assert 50 <= len(part.calls) < 50 + 7
    for calls in (whole.calls, part.calls):
        instances = {call.instance for call in calls if call.instance}
        finished = {call.instance for call in calls if call.is_last}
        assert instances == finished
    assert all(0 <= n < place for place, call in enumerate(part.calls) for n in call.after)


def test_a_stream_of_a_trace_beside_others(tmp_path: Path):
    (tmp_path / "trace").write_text(
        "".join(
            f'{{"timestamp": {1000 * n}, "input_length": 600, "output_length": 5, '
            f'"hash_ids": [0, {n + 1}]}}\n'
            for n in range(20)
        )
    )
    text = """
[[stream]]
trace = "trace"
skip = 5
requests = 10
rate_per_s = 5
start_s = 3
model = "big"
[[stream]]
rate_per_s = 10
duration_s = 6
prompt_tokens = 10
output_tokens = 10
prefix = { tokens = 64 }
"""
    workload = _load(tmp_path, text)
    traced = [call for call in workload.calls if call.model == "big"]
    assert len(traced) == 10
    assert traced[-1].at_s - traced[0].at_s == pytest.approx(2)
    assert workload.block_tokens == 64
    shared = {call.blocks[:8] for call in traced}
    drawn = {call.blocks for call in workload.calls if call.model != "big"}
    assert len(shared) == len(drawn) == 1
    assert len({call.blocks[8:] for call in traced}) == 10
    assert not {block for blocks in shared for block in blocks} & set(next(iter(drawn)))


@given(
    blocks=st.lists(st.integers(0, (1 << 48) - 1), max_size=5).map(tuple),
    block_tokens=st.integers(1, 70),
    num_prompt=st.integers(1, 300),
    low=st.integers(0, 1000),
    span=st.integers(1, 100_000),
)
@settings(max_examples=100, deadline=None)
def test_prompts_are_their_blocks(blocks, block_tokens, num_prompt, low, span):
    call = Call(at_s=0, num_prompt=num_prompt, num_output=1, blocks=blocks)
    prompt = prompt_tokens(call, 3, block_tokens, low, low + span)
    tokens = np.frombuffer(prompt, "<i4")
    assert len(tokens) == num_prompt
    assert tokens.min() >= low
    assert tokens.max() < low + span
    longer = Call(at_s=0, num_prompt=num_prompt + 50, num_output=1, blocks=(*blocks, 77))
    shared = min(num_prompt, len(blocks) * block_tokens)
    other = np.frombuffer(prompt_tokens(longer, 4, block_tokens, low, low + span), "<i4")
    assert np.array_equal(tokens[:shared], other[:shared])
    if num_prompt - shared > 20 and span > 1000:
        assert not np.array_equal(tokens[shared:], other[shared:num_prompt])


def test_promises_of_one_line():
    classes = {"chat": Promise(sla_class="chat", ttft_s=1.0)}
    spec = "poisson:rate=1,requests=3,prompt=5,output=5"
    by_name = load_workload(f"{spec},sla=chat", classes=classes)
    assert {call.promise for call in by_name.calls} == {classes["chat"]}
    figures = load_workload(f"{spec},ttft_ms=500,e2e_ms=4000")
    assert {call.promise for call in figures.calls} == {Promise(ttft_s=0.5, e2e_s=4.0)}
    with pytest.raises(ConfigError, match="no class 'chart'; did you mean 'chat'"):
        load_workload(f"{spec},sla=chart", classes=classes)


SPEC = "poisson:rate=5,duration=60,prompt=512/2048,output=128/512"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("poisson", "possion", "did you mean 'poisson'"),
        ("poisson", "gamma", "needs cv"),
        ("poisson:", "bursts:on=3,off=4,", "needs burst_rate_per_s"),
        ("rate=5", "rate=0", "rate_per_s"),
        ("rate=5", "rate=nan", "rate_per_s"),
        ("rate=5", "rate=fast", "rate: expected a number, got 'fast'"),
        ("rate=5,", "", "needs rate_per_s"),
        ("rate=5", "rte=5", "unknown key 'rte'; did you mean 'rate'"),
        ("rate=5", "rate=5,rate=6", "rate is said twice"),
        ("duration=60,", "", "has no end"),
        ("duration=60", "duration=-1", "duration_s"),
        ("duration=60", "duration=1e9", "more than"),
        ("duration=60", "duration=60,cv=2", 'cv is of arrivals = "gamma"'),
        ("512/2048", "512/20", "p95 = 20 is less than p50 = 512"),
        ("prompt=512/2048,", "", "needs prompt_tokens"),
        ("prompt=512", "prompt=0", "prompt_tokens p50"),
        ("output=128/512", "output=inf", "output_tokens"),
        ("output=128/512", "output=128/512,sla=chat", "no class 'chat'"),
        ("output=128/512", "output=128/512,tpot_ms=5", "tpot_ms alone"),
        ("output=128/512", "output=128/512,prefixes=5", "needs tokens"),
        ("output=128/512", "output=128/512,think=5", "think_s without turns"),
        ("rate=5", "rate", "expected KEY=VALUE"),
    ],
)
def test_a_bad_line(old: str, new: str, message: str):
    load_workload(SPEC)
    with pytest.raises(ConfigError) as caught:
        load_workload(SPEC.replace(old, new))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[stream]]", "[[streams]]", "did you mean 'stream'"),
        ("[[stream]]", "[stream]", "write [[stream]] for each"),
        ("rate_per_s = 2", "rate = 2", "did you mean 'rate_per_s'"),
        ("rate_per_s = 2", "rate_per_s = inf", "rate_per_s"),
        ("prompt_tokens = 100", "prompt_tokens = '100'", "prompt_tokens: expected TOKENS"),
        ('sla = "chat"', 'sla = "chart"', "there is no class 'chart'; did you mean 'chat'"),
        ('sla = "chat"', 'trace = "x"', "prompt_tokens beside trace"),
        ('name = "agent"', "", "[[workflow]] number 1: needs name"),
        ('name = "agent"', 'name = "a b"', "is no name"),
        ("e2e_ms = 20000", "target = 0.9", "target without e2e_ms"),
        ('name = "plan"', 'name = "plan"\nafter = ["write"]', "no stage above it is called"),
        ('name = "plan"', 'name = "plan"\ntool_s = 3', "tool_s of a stage that waits for none"),
        ('name = "check"', 'name = "work"', "two stages are called 'work'"),
        ("calls = [1, 4]", "calls = [4, 1]", "expected [LEAST, MOST]"),
        ("calls = [1, 4]", "calls = 0", "calls: expected int >= 1"),
        ("share = 0.5", "share = 2", "share: expected float <= 1"),
        ("prompt_tokens = 300", "", "[[workflow.stage]] number 1: needs prompt_tokens"),
        ("ttft_ms = 500", "ttft_ms = 0", "[sla.chat] ttft_ms"),
        (TASKS, "[sla.a]\nttft_ms = 5\n", "describes no request"),
        (TASKS, "[[stream]", "not valid TOML"),
        (TASKS, "[[workflow]]\nname = 'a'\nrate_per_s = 1\n", "has no stage"),
        (TASKS, "[[stream]]\ntrace = 'none.csv'\n", "none.csv: there is no such file"),
        (TASKS, "[[stream]]\ntrace = 'workload.toml'\n", "is a workload file, not a trace"),
    ],
)  # fmt: skip
def test_a_bad_workload_file(tmp_path: Path, old: str, new: str, message: str):
    _load(tmp_path, TASKS)
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, TASKS.replace(old, new, 1))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
