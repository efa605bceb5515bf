"""Traces and recorded logs as workloads: what is read, and what is refused where."""

from __future__ import annotations

import json
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest

from fmedge.errors import ConfigError
from fmedge.sim.load import at_rate, load_workload, prompt_tokens
from fmedge.types import Promise

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE = HEADER + (
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:16:50.9951690,879,0\n"
)
MOONCAKE = (
    '{"timestamp": 3000, "input_length": 1100, "output_length": 50, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}\n'
    '{"timestamp": 9000, "input_length": 30, "output_length": 7, "hash_ids": [9]}\n'
)
LOG_HEADER = (
    '{"fmedge_log":1,"version":"1","started_unix_s":100.0,"block_tokens":64,'
    '"workflows":{"agent":{"e2e_s":20.0}}}\n'
)


def _file(folder: Path, text: str | bytes, name: str = "given") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_azure(tmp_path: Path) -> None:
    workload = load_workload(_file(tmp_path, AZURE))
    assert [call.at_s for call in workload.calls] == [0.0, 4.314579, 64.314579]
    assert [call.num_prompt for call in workload.calls] == [374, 396, 879]
    assert [call.num_output for call in workload.calls] == [44, 109, 1]
    assert workload.block_tokens == 0


def test_columns_are_found_by_name_and_zones_and_marks_do_not_matter(tmp_path: Path) -> None:
    text = (
        "\ufeffGeneratedTokens,model,TIMESTAMP,ContextTokens\r\n"
        "5,a,2024-05-10 00:00:00.009930+00:00,2162\r\n"
        "\r\n"
        '7,"b,c",2024-05-10 00:00:01+00:00,2399\r\n'
    )
    first, second = load_workload(_file(tmp_path, text)).calls
    assert (first.num_prompt, first.num_output) == (2162, 5)
    assert (second.at_s, second.num_prompt) == (pytest.approx(0.99007), 2399)


def test_mooncake_shares_what_its_ids_share(tmp_path: Path) -> None:
    workload = load_workload(_file(tmp_path, MOONCAKE))
    assert [call.at_s for call in workload.calls] == [0, 0, 6]
    assert workload.block_tokens == 512
    first, second, third = (
        prompt_tokens(call, n, 512, 10, 500) for n, call in enumerate(workload.calls)
    )
    assert [len(prompt) // 4 for prompt in (first, second, third)] == [1100, 600, 30]
    assert first[: 4 * 512] == second[: 4 * 512]
    assert first[4 * 512 : 4 * 600] != second[4 * 512 :]
    assert third != first[: 4 * 30]


def test_a_prompts_blocks_shrink_with_it(tmp_path: Path) -> None:
    workload = load_workload(_file(tmp_path, MOONCAKE), scale=0.1, longest=90)
    assert workload.block_tokens == 51
    first, second, third = workload.calls
    assert (first.num_prompt, first.num_output, first.blocks) == (85, 5, (0, 1))
    assert (second.num_prompt, second.num_output, second.blocks) == (60, 1, (0, 7))
    assert (third.num_prompt, third.num_output) == (3, 1)


def test_part_of_a_trace_at_another_rate(tmp_path: Path) -> None:
    lines = "".join(f"2023-11-16 18:15:{n:02},{n + 1},5\n" for n in range(40))
    file = _file(tmp_path, HEADER + lines)
    workload = load_workload(file, skip=10, requests=21, rate=4.0)
    assert [call.num_prompt for call in workload.calls] == list(range(11, 32))
    assert workload.calls[0].at_s == 0
    assert workload.calls[-1].at_s == pytest.approx(21 / 4)
    assert at_rate(workload, 8.0).calls[-1].at_s == pytest.approx(21 / 8)
    assert workload.source == f"{file} rate=4.0 requests=21 skip=10"
    with pytest.raises(ConfigError, match="has 30 requests after the first 10, not 31"):
        load_workload(file, skip=10, requests=31)
    with pytest.raises(ConfigError, match="has no request after the first 40"):
        load_workload(file, skip=40)
    with pytest.raises(ConfigError, match="all requests arrive at once"):
        load_workload(file, requests=1, rate=1.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (AZURE, "", "is empty"),
        (AZURE, "\n\n", "is empty"),
        (AZURE, HEADER, "has no request"),
        (",ContextTokens", "", "line 1: no column ContextTokens"),
        ("TIMESTAMP,ContextTokens", "when,what", "no column TIMESTAMP, ContextTokens"),
        ("374", "many", "line 2, ContextTokens: expected a number of tokens"),
        ("109", "-1", "line 3, GeneratedTokens: expected a number of tokens"),
        ("396", "1e400", "line 3, ContextTokens"),
        ("396", "9" * 5000, "line 3, ContextTokens"),
        ("396,109", "396", "line 3: 2 columns, not 3"),
        ("18:16:50", "18:15:46", "line 4, TIMESTAMP: 2023-11-16 18:15:46.9951690 is before"),
        ("2023-11-16 18:16", "noon", "line 4, TIMESTAMP: expected a date"),
        (",44", ',"44', "GeneratedTokens: expected a number of tokens"),
        (AZURE, AZURE.encode() + b"\xff\xfe,1,2\n", "line 5: not UTF-8"),
        (AZURE, b"\x00\x01\x02" * 100, "no column"),
    ],
)
def test_a_bad_azure_trace(tmp_path: Path, old: str, new: str | bytes, message: str) -> None:
    path = _file(tmp_path, AZURE.replace(old, new) if isinstance(new, str) else new)
    with pytest.raises(ConfigError) as caught:
        load_workload(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("9000", "2000", "line 3, timestamp: 2000 is before the line above it"),
        ("9000", "-1", "line 3, timestamp: -1 is negative"),
        ("9000", '"noon"', "line 3, timestamp: Expected float, got str"),
        ('"input_length": 600, ', "", "line 2: Object missing required field input_length"),
        ("1100", "-3", "line 1, input_length"),
        ("1100", "1.5", "line 1, input_length: Expected int"),
        ("[0, 7]", "[0, -7]", "line 2, hash_ids[1]: Expected int >= 0"),
        ("[9]}", "[9]", "line 3"),
        ("[9]}", "[9]}}", "line 3"),
    ],
)
def test_a_bad_mooncake_trace(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _file(tmp_path, MOONCAKE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_workload(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)


def test_a_file_is_what_its_content_is(tmp_path: Path) -> None:
    assert load_workload(_file(tmp_path, AZURE, "trace.jsonl")).block_tokens == 0
    assert load_workload(_file(tmp_path, MOONCAKE, "trace.csv")).block_tokens == 512
    with pytest.raises(ConfigError, match="there is no such file"):
        load_workload(str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match="is a folder"):
        load_workload(str(tmp_path))
    with pytest.raises(ConfigError, match="there is no such file"):
        load_workload("x" * 5000)


@pytest.mark.parametrize(
    "given", [{"rate": 0.0}, {"rate": inf}, {"requests": 0}, {"skip": -1}, {"scale": -1.0},
              {"longest": 1}, {"seed": -1}],
)  # fmt: skip
def test_what_makes_no_workload(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        load_workload(_file(tmp_path, AZURE), **given)


def test_a_long_trace_loads_fast(tmp_path: Path) -> None:
    rows = "".join(
        f"2023-11-16 18:{n // 600:02}:{n // 10 % 60:02}.{n % 10}000000,{n % 4000},{n % 500}\n"
        for n in range(12_000)
    )
    path = _file(tmp_path, HEADER + rows)
    began_s = time.process_time()
    assert len(load_workload(path).calls) == 12_000
    assert time.process_time() - began_s < 1.0  # a tenth of that where nothing else runs


# --- recorded logs ---


def _log(*lines: dict[str, object]) -> str:
    made = [{"model": "m", "outcome": "stop", "num_prompt": 9, **line} for line in lines]
    return LOG_HEADER + "".join(json.dumps(line) + "\n" for line in made)


def test_a_log_is_played_by_arrival_with_its_terms(tmp_path: Path) -> None:
    sla = {"sla_class": "chat", "ttft_s": 0.5, "target": 0.95}
    text = _log(
        {"at_unix_s": 107.5, "num_output": 4, "max_tokens": 9, "blocks": "aaaaaaaabbbbbbbb"},
        {"at_unix_s": 105.0, "num_output": 3, "sla": sla, "blocks": "aaaaaaaacccccccc",
         "api_key": "k", "priority": 3},
    )  # fmt: skip
    workload = load_workload(_file(tmp_path, text))
    first, second = workload.calls
    assert (first.at_s, first.num_output, first.api_key, first.priority) == (0, 3, "k", 3)
    assert first.promise == Promise(sla_class="chat", ttft_s=0.5, target=0.95)
    assert (second.at_s, second.num_output, second.max_tokens) == (2.5, 4, 9)
    assert first.blocks[0] == second.blocks[0]
    assert first.blocks[1] != second.blocks[1]
    assert workload.workflows["agent"].e2e_s == 20


def test_calls_of_a_task_wait_for_what_had_ended(tmp_path: Path) -> None:
    task = {"workflow": "agent", "instance": "i", "num_output": 2}
    text = _log(
        {"at_unix_s": 100, "e2e_s": 2.0, "stage": "plan", **task},
        {"at_unix_s": 103, "e2e_s": 5.0, "stage": "left", **task},
        {"at_unix_s": 103.5, "e2e_s": 1.0, "stage": "right", **task},
        {"at_unix_s": 105, "e2e_s": 0.5, "stage": "refine", **task},
        {"at_unix_s": 109, "e2e_s": 1.0, "stage": "join", "is_last": True, **task},
        {"at_unix_s": 104, "num_output": 2, "e2e_s": 0.5},
        {"at_unix_s": 110, "e2e_s": 0.5, "stage": "other", **task, "instance": "j"},
    )
    calls = load_workload(_file(tmp_path, text)).calls
    places = {call.stage: n for n, call in enumerate(calls)}
    after = {call.stage: {calls[n].stage for n in call.after} for call in calls}
    assert after == {
        "plan": set(), "left": {"plan"}, "right": {"plan"}, "refine": {"right"},
        "join": {"left", "refine"}, "": set(), "other": set(),
    }  # fmt: skip
    tools = {stage: calls[n].at_s for stage, n in places.items()}
    assert tools == {"plan": 0, "left": 1, "right": 1.5, "refine": 0.5, "join": 1, "": 4,
                     "other": 10}  # fmt: skip
    assert calls[places["join"]].is_last
    roots = [call.at_s for call in calls if not call.after]
    assert roots == sorted(roots)
    assert all(n < place for place, call in enumerate(calls) for n in call.after)


def test_calls_that_were_never_answered_are_asked_again(tmp_path: Path) -> None:
    text = _log(
        {"at_unix_s": 100, "num_output": 30, "max_tokens": 50},
        {"at_unix_s": 101, "outcome": "overloaded", "max_tokens": 50},
        {"at_unix_s": 102, "outcome": "sla_unattainable", "max_tokens": 8},
        {"at_unix_s": 103, "outcome": "overloaded", "num_prompt": 0},
        {"at_unix_s": 104, "outcome": "cancelled", "num_output": 4, "max_tokens": 50},
        {"at_unix_s": 105, "outcome": "overloaded", "num_prompt": 0, "model": "never answered"},
    )
    calls = load_workload(_file(tmp_path, text)).calls
    assert [call.num_output for call in calls] == [30, 30, 8, 30, 4]
    assert [call.num_prompt for call in calls] == [9, 9, 9, 9, 9]


def test_a_log_that_a_crash_cut_off(tmp_path: Path) -> None:
    text = _log({"at_unix_s": 100, "num_output": 3}, {"at_unix_s": 101, "num_output": 3})
    assert len(load_workload(_file(tmp_path, text[:-9])).calls) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"at_unix_s": 100', '"at_unix_s": -1', "line 2, at_unix_s: Expected float >= 0"),
        ('"num_output": 3', '"num_output": "3"', "line 2, num_output: Expected int, got str"),
        ('"fmedge_log":1', '"fmedge_log":2', "line 1: another version of fmedge wrote it"),
        ('"model": "m"', '"mode": "m"', "line 2: Object missing required field model"),
    ],
)
def test_a_bad_log(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _file(tmp_path, _log({"at_unix_s": 100, "num_output": 3}).replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_workload(path)
    assert message in str(caught.value)
