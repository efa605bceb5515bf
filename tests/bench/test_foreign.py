"""Estimates on another engine, from profile files and a log of an invented one."""

import json
import math
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.context import Bench, Outcome, Skipped
from bench.foreign import __main__ as command
from bench.foreign import row
from bench.foreign.compare import Estimate, compare, table
from bench.foreign.engine import EngineLimits, read_limits
from bench.foreign.log import LoggedRequest, read_log
from bench.foreign.profile import ProfileError, read_profile
from bench.foreign.report import correction, evaluate, scaled
from bench.foreign.samples import samples
from fmedge.sched.steptime import SCALE_DECODE, SCALE_PREFILL, StepModel, step_time
from tests.sched.naive_paged import Limits, NaivePagedReplay

NUM_LAYERS = 7
LIMITS = EngineLimits(num_layers=NUM_LAYERS, kv_tokens=6_000, step_tokens=512, max_sequences=64)
TOKENS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512)
SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128)
GRID = (0, 16, 32, 64, 128, 256, 512)
ATTENTION_HEAD = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"
DEPTHS = (16, 64, 256, 1024, 4096, 8192)


def gemm_us(num_tokens: float) -> float:
    """Bound by reading weights up to 64 tokens, then by arithmetic."""
    return 400 + 6 * max(0.0, num_tokens - 64)


def attention_us(chunk: float, past: float, num_decoding: float, depth: float) -> float:
    """Decoding costs more beside a prefill: another kernel does it."""
    decode_us = 0.01 * num_decoding * depth
    return 9 + chunk * (past + chunk / 2) * 2e-3 + (1.6 if chunk else 1.0) * decode_us


def head_us(num_sequences: float) -> float:
    return 900 + 2 * num_sequences


def true_step_s(num_prefill: float, num_decoding: float, num_kv: float, attention: float) -> float:
    """What the invented engine takes; a step's prefill is one chunk or none."""
    num_tokens = num_prefill + num_decoding
    depth = num_kv / num_decoding if num_decoding else 0.0
    past = attention / num_prefill - num_prefill / 2 if num_prefill else 0.0
    layer_us = gemm_us(num_tokens) + 2 * 3 + attention_us(num_prefill, past, num_decoding, depth)
    once_us = 5 + 4 + head_us(num_decoding + (1 if num_prefill else 0))
    return (NUM_LAYERS * layer_us + once_us) * 1e-6


def write_profile(folder: Path, *, is_keyed: bool = False) -> None:
    """is_keyed: attention.csv with prefill_key and decode_q_len, as newer profilers write it."""
    dense = [("layernorm", lambda t: 3.0), ("qkv_proj", gemm_us), ("embedding", lambda t: 5.0),
             ("final_layernorm", lambda t: 4.0)]  # fmt: skip
    rows = [f"{name},{t},{time_us(t)}" for name, time_us in dense for t in TOKENS]
    (folder / "dense.csv").write_text("\n".join(["layer,tokens,time_us", *rows]) + "\n")
    rows = [f"lm_head,{s},{head_us(s)}" for s in SEQUENCES]
    (folder / "per_sequence.csv").write_text("\n".join(["layer,sequences,time_us", *rows]) + "\n")
    points = [
        (chunk, past, num_decoding, depth)
        for chunk in GRID
        for past in ((0, *DEPTHS) if chunk else (0,))
        for num_decoding in (0, 1, 2, 4, 8, 16, 32, 64)
        for depth in (DEPTHS if num_decoding else (0,))
        if chunk or num_decoding
    ]
    if is_keyed:
        head = "layer,prefill_chunk,prefill_key,n_decode,kv_decode,decode_q_len,time_us"
        rows = [
            f"attention,{c},{p + c / 2},{n},{d},{q},{attention_us(c, p, n, d) * q}"
            for c, p, n, d in points
            for q in (1, 4)
        ]
    else:
        head = ATTENTION_HEAD.strip()
        rows = [f"{c},{p},{n},{d},{attention_us(c, p, n, d)}" for c, p, n, d in points]
    (folder / "attention.csv").write_text("\n".join([head, *rows]) + "\n")
    (folder / "meta.yaml").write_text(
        "tp_degrees: [1]\nengine_effective:\n  max_num_batched_tokens: 512\n"
        "  max_num_seqs: 64\n  block_size: 16\n"
    )


def write_log(folder: Path, *, slower: float = 1.0) -> None:
    """80 requests, more than KV holds at once, as the oracle serves them."""
    rng = random.Random(3)
    arrivals, at_s = [], 0.0
    for _ in range(80):
        at_s += rng.expovariate(25.0)
        arrivals.append((at_s, rng.randint(20, 600), rng.randint(2, 400)))
    limits = Limits(512, 64, LIMITS.num_blocks, 16, schedule_ahead=True)
    naive = NaivePagedReplay(limits, lambda *step: slower * true_step_s(*step))
    served = naive.run(arrivals)
    assert sum(request.num_preemptions for request in served) > 5
    lines = [
        {
            "request_id": f"r{i}",
            "input_toks": request.num_prompt,
            "output_toks": request.num_output,
            "arrival_time": 1.7e9 + request.arrival_s,
            "queued_ts": 500 + min(request.arrival_s + 0.001 * (i % 3), request.scheduled_s),
            "scheduled_ts": 500 + request.scheduled_s,
            "first_token_ts": 500 + request.first_s,
            "last_token_ts": 500 + request.end_s,
        }
        for i, request in enumerate(served)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "requests.jsonl").write_text(text + "\n")


@pytest.mark.parametrize("is_keyed", [False, True])
def test_a_step_is_the_sum_of_its_operators(tmp_path: Path, is_keyed: bool) -> None:
    write_profile(tmp_path, is_keyed=is_keyed)
    profile = read_profile(tmp_path, NUM_LAYERS)
    for chunk, past, num_decoding, depth in [(0, 0, 24, 200), (48, 100, 0, 0), (100, 40, 10, 300)]:
        got = profile.step_s(chunk, past, num_decoding, depth, num_decoding + bool(chunk))
        attention = chunk * (past + chunk / 2)
        wanted = true_step_s(chunk, num_decoding, num_decoding * depth, attention)
        # piecewise linear everywhere but in the chunk's own square
        assert got == pytest.approx(wanted, rel=0.02)
    assert profile.step_s(300, 20_000, 0, 0, 1) is None
    with pytest.raises(ProfileError, match="outside the measured 1 to 512"):
        profile.step_s(512, 0, 4, 16, 5)


def test_estimates_from_the_profile_alone(tmp_path: Path) -> None:
    write_profile(tmp_path)
    write_log(tmp_path)
    report = evaluate(tmp_path, LIMITS)
    assert report.num_requests == 80
    assert report.num_preemptions > 5
    assert report.error("TTFT").actual_mean_s > 1
    assert report.error("TTFT").median < 0.05
    assert report.error("end to end").median < 0.05
    # later arrivals hold nobody up but by the batch they share
    assert next(errors for errors in report.on_arrival if errors.name == "TTFT").median < 0.05
    text = report.text()
    assert "queue wait (l_q)" in text
    assert "80 requests" in text


def test_what_the_profile_cannot_know_is_learned_from_the_first_requests(tmp_path: Path) -> None:
    write_profile(tmp_path)
    write_log(tmp_path, slower=1.4)
    report = evaluate(tmp_path, LIMITS)
    assert report.error("end to end").bias < -0.2
    assert report.correction == pytest.approx(1.4, rel=0.06)
    end_to_end = next(errors for errors in report.corrected if errors.name == "end to end")
    assert end_to_end.median < 0.06
    assert end_to_end.num == 80 - 30


def test_samples_stay_within_the_engines_limits(tmp_path: Path) -> None:
    write_profile(tmp_path)
    found = samples(read_profile(tmp_path, NUM_LAYERS), LIMITS)
    assert (found.num_prefill + found.num_decoding).max() == 512
    assert found.num_kv.max() <= 6_000
    is_mixed = (found.num_prefill > 0) & (found.num_decoding > 0)
    assert 50 < is_mixed.sum() < 2 * (len(found) - is_mixed.sum())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dense.csv", "layer,tokens\nqkv_proj,1\n", "no column 'time_us'"),
        ("dense.csv", "layer,tokens,time_us\n", "no rows"),
        ("per_sequence.csv", "layer,sequences,time_us\nlm_head,1,-3\n", "line 2: time_us is '-3'"),
        ("per_sequence.csv", "layer,sequences,time_us\nlm_head,1\n", "line 2: time_us is None"),
        ("attention.csv", "prefill_chunk,n_decode,kv_decode,time_us\n1,1,1,1\n", "prefill_key"),
        ("attention.csv", "\xff\n", "no column"),
        ("dense.csv", "layer,tokens,time_us\nqkv_proj,1.5,2\n", "tokens is '1.5', not a whole"),
        ("attention.csv", ATTENTION_HEAD + "1,x,1,1,1\n", "kv_prefill is 'x'"),
        ("attention.csv", "layer," + ATTENTION_HEAD + "mla,1,1,1,1,1\n", "'mla': such layers"),
        ("meta.yaml", "tp_degrees: [2]\n", "only 1 can be estimated"),
        ("meta.yaml", "{", "meta.yaml"),
        ("moe.csv", "", "not understood"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_profile(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ProfileError, match=message):
        read_profile(tmp_path, NUM_LAYERS)


def test_absent_files_and_too_few_points(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"dense\.csv: .*No such file"):
        read_profile(tmp_path, NUM_LAYERS)
    write_profile(tmp_path)
    with pytest.raises(ProfileError, match="at least 1, not 0"):
        read_profile(tmp_path, 0)
    few = EngineLimits(num_layers=1, kv_tokens=64, step_tokens=17, max_sequences=1)
    with pytest.raises(ProfileError, match="too few to fit"):
        samples(read_profile(tmp_path, 1), few)


def line(**changes: object) -> str:
    fields: dict[str, object] = {
        "request_id": "a", "input_toks": 5, "output_toks": 2, "arrival_time": 1e9,
        "queued_ts": 10.0, "scheduled_ts": 11.0, "first_token_ts": 12.0, "last_token_ts": 13.0,
    }  # fmt: skip
    return json.dumps(fields | changes)


def test_the_logs_two_clocks_are_aligned(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    later = line(request_id="b", arrival_time=1e9 + 4, queued_ts=14.5, scheduled_ts=14.5,
                 first_token_ts=15.0, last_token_ts=16.0)  # fmt: skip
    path.write_text(later + "\n\n" + line() + "\n")
    first, second = read_log(path)
    assert (first.request_id, second.request_id) == ("a", "b")
    assert (first.arrival_s, first.queued_s, first.ttft_s, first.e2e_s) == (0, 0, 2, 3)
    # 0.5 s more than the other on its way to the queue
    assert (second.arrival_s, second.queued_s, second.queue_wait_s) == (4, 4.5, 0)
    assert second.ttft_s == 1
    assert second.execution_s == 1.5


def test_a_log_without_arrivals_begins_at_its_queue(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(line(arrival_time=None))
    assert read_log(path)[0].arrival_s == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no requests"),
        ("{", "line 1: "),
        (line() + "\n" + line(first_token_ts=9.0), "line 2: its times go backwards"),
        (line(output_toks=0), "at least a token"),
        (line(queued_ts="x"), "line 1: .*queued_ts"),
    ],
)
def test_logs_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message):
        read_log(path)


def test_limits_come_from_flags_then_the_file_then_the_profile(tmp_path: Path) -> None:
    write_profile(tmp_path)
    path = tmp_path / "engine.toml"
    with pytest.raises(ProfileError, match="num_layers"):
        read_limits(path, tmp_path)
    path.write_text("num_layers = 4\nkv_tokens = 1000\nmax_sequences = 9\n")
    limits = read_limits(path, tmp_path, {"num_layers": 5})
    assert (limits.num_layers, limits.max_sequences, limits.step_tokens) == (5, 9, 512)
    assert limits.num_blocks == 61
    assert limits.blocks_of(17) == 2
    for text, message in [("num_layer = 4", "num_layer"), ("kv_tokens = 0", "at least 1"),
                          ("kv_tokens = 20", "no block"), ("=", "engine.toml")]:  # fmt: skip
        path.write_text(text)
        with pytest.raises(ProfileError, match=message):
            read_limits(path, tmp_path, {"num_layers": 5, "kv_tokens": 100} if "r =" in text
                        else {"num_layers": 5})  # fmt: skip


def test_errors_are_relative_to_what_passed() -> None:
    log = [
        LoggedRequest("a", 1, 1, 0.0, 0.0, 10.0, 11.0, 20.0),
        LoggedRequest("b", 1, 1, 1.0, 1.0, 1.001, 3.0, 5.0),
    ]
    estimates = [Estimate(11.0, 12.1, 22.0), Estimate(1.5, 2.8, 5.0)]
    wait, execution, ttft, end_to_end = compare(log, estimates, shortest_s=0.01)
    assert (wait.num, wait.num_left_out) == (1, 1)
    assert wait.median == pytest.approx(0.1)
    assert wait.total_bias == pytest.approx(11.5 / 10.001 - 1)
    assert execution.bias == pytest.approx((0.1 + (3.5 / 3.999 - 1)) / 2)
    assert ttft.median == pytest.approx(0.1)
    assert ttft.bias == pytest.approx(0)
    assert end_to_end.mean == pytest.approx(0.05)
    assert "(-1)" in table("title", [wait])
    assert math.isnan(compare(log, estimates, shortest_s=100.0)[0].median)


def test_a_correction_is_the_median_ratio() -> None:
    log = [LoggedRequest("a", 1, 3, 0, 0, 0, 1, 1 + took) for took in (2.0, 3.0, 30.0)]
    log.append(LoggedRequest("b", 1, 1, 0, 0, 0, 1, 1))
    assert correction(log, [Estimate(0, 1, 3)] * 4) == 1.5
    assert correction(log[3:], [Estimate(0, 1, 1)]) == 1.0
    packed = StepModel(base_s=0.01).packed()
    longer = scaled(packed, 1.5)
    assert step_time(longer, 4, 2, 10, 8) == pytest.approx(1.5 * step_time(packed, 4, 2, 10, 8))
    assert packed[SCALE_PREFILL] == packed[SCALE_DECODE] == 1.0


def test_a_report_can_be_kept_as_json(tmp_path: Path) -> None:
    write_profile(tmp_path)
    write_log(tmp_path)
    kept = json.loads(msgspec.json.encode(evaluate(tmp_path, LIMITS)))
    assert np.isfinite([errors["median"] for errors in kept["errors"]]).all()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(folder=tmp_path, cores=(0,), llama_server=None, llama_bench=None)


async def test_the_row_without_data_says_so(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FMEDGE_BENCH_DATA", raising=False)
    assert await row.run(bench) == [Skipped("foreign", "FMEDGE_BENCH_DATA is not set")]
    monkeypatch.setenv("FMEDGE_BENCH_DATA", str(tmp_path))
    (skipped,) = await row.run(bench)
    assert isinstance(skipped, Skipped)
    assert "requests.jsonl" in skipped.reason


async def test_the_row_judges_every_engine_in_the_data(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FMEDGE_BENCH_DATA", str(tmp_path))
    for name in ("known", "unknown"):
        folder = tmp_path / "hardware" / name
        folder.mkdir(parents=True)
        write_profile(folder)
        write_log(folder)
    (tmp_path / "hardware" / "known" / "engine.toml").write_text(
        f"num_layers = {NUM_LAYERS}\nkv_tokens = 6000\n"
    )
    first, second, failed = await row.run(bench)
    assert isinstance(first, Outcome)
    assert isinstance(second, Outcome)
    assert (first.metric, second.metric) == ("TTFT, median error", "end to end, median error")
    assert first.is_met
    assert second.is_met
    json.dumps(first.detail)
    assert isinstance(failed, Skipped)
    assert failed.reason.startswith("failed: engine limits of unknown")
    assert "num_layers" in failed.reason
    assert "known: 80 requests" in capsys.readouterr().err


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(tmp_path)
    write_log(tmp_path)
    words = ["foreign", str(tmp_path), "--num-layers", str(NUM_LAYERS), "--kv-tokens"]
    monkeypatch.setattr("sys.argv", [*words, "6000"])
    assert command.main() == 0
    assert "end to end" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*words, "500"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "kv_tokens leaves room for 480" in capsys.readouterr().err
