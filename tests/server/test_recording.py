"""The log of requests: what is in it, what is not, that it plays again, and that nothing waits for
it."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fmedge.dispatch import Dispatcher, Generation
from fmedge.errors import ConfigError, UnavailableError
from fmedge.sched.core import CoreSettings
from fmedge.server.recording import Recording
from fmedge.sim.load import load_workload
from fmedge.sim.recorded import BLOCK_TOKENS
from fmedge.types import GenerationRequest, Promise, WorkflowCall, WorkflowSettings
from tests.replica.supervised import DEADLINE_S, pack
from tests.test_dispatch_promises import ScriptedReplica, known, request

AGENT = WorkflowSettings(name="agent", e2e_s=30.0, target=0.95)
LONG = tuple(range(100, 100 + 3 * BLOCK_TOKENS))


def _generation(number: int, given: GenerationRequest) -> Generation:
    def nothing(_: Generation) -> None: ...

    return Generation(number, given, given.max_tokens, nothing, nothing)


async def _refusal(dispatcher: Dispatcher) -> str:
    """Its code, "" where the request was taken."""
    try:
        await dispatcher.submit(request(1, 2, max_tokens=30))
    except UnavailableError as error:
        return error.code
    return ""


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


async def test_every_end_of_a_request_is_logged_and_plays_again(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    workflows = {"agent": AGENT}
    replica = ScriptedReplica("r0")
    with Recording(path, workflows) as recording:
        dispatcher = Dispatcher(
            CoreSettings(max_waiting=1), profiler=known, workflows=workflows, recorder=recording
        )
        dispatcher.add_replica(replica)
        await dispatcher.wait_ready(DEADLINE_S, every_replica=True)
        call = WorkflowCall(workflow="agent", instance="i", stage="plan")
        promise = Promise(sla_class="chat", ttft_s=60.0)
        await dispatcher.submit(
            request(*LONG, workflow=call, promise=promise, api_key_id="ann", priority=2)
        )
        replica.say(replica.submitted[-1].request_id, 7, cached=3)
        replica.say(replica.submitted[-1].request_id, 8, 9, finish="stop")
        last = WorkflowCall(workflow="agent", instance="i", stage="write", is_last=True)
        left = await dispatcher.submit(
            request(*LONG[:-1], 5, workflow=last, api_key_id="ann", max_tokens=50)
        )
        replica.say(replica.submitted[-1].request_id, 7, cached=0)
        refusals = [await _refusal(dispatcher) for _ in range(9)]
        left.cancel()
        await dispatcher.drain(0.0)
        with pytest.raises(UnavailableError):
            dispatcher.check("m")
        await dispatcher.close()
    lines = _lines(path)
    (stopped,) = (line for line in lines if line["outcome"] == "stop")
    (cancelled,) = (line for line in lines if line["outcome"] == "cancelled")
    assert set(refusals) <= {line["outcome"] for line in lines} | {""}
    assert "overloaded" in refusals
    assert {"model", "at_unix_s"} <= set.intersection(*(set(line) for line in lines))
    assert (stopped["num_prompt"], stopped["num_output"], stopped["num_cached"]) == (192, 3, 3)
    assert stopped["sla"].items() >= {"sla_class": "chat", "ttft_s": 60.0}.items()
    assert stopped["replica"] == "r0"
    assert 0 < stopped["ttft_s"] <= stopped["e2e_s"] < DEADLINE_S
    assert stopped["blocks"][:16] == cancelled["blocks"][:16]
    assert stopped["blocks"][16:] != cancelled["blocks"][16:]
    assert stopped["api_key"] == cancelled["api_key"]
    assert "ann" not in path.read_text()
    assert [line["num_prompt"] for line in lines][-1] == 0  # it was refused unread

    workload = load_workload(str(path))
    assert len(workload.calls) == len(lines)
    assert workload.workflows == workflows
    plan, write = (call for call in workload.calls if call.workflow)
    assert (plan.stage, plan.promise, plan.priority) == ("plan", promise, 2)
    assert (plan.num_prompt, plan.num_output, plan.max_tokens) == (192, 3, 400)
    assert (write.num_prompt, write.num_output, write.max_tokens) == (192, 1, 50)
    assert write.is_last
    assert workload.calls[write.after[0]] == plan
    assert plan.blocks[:2] == write.blocks[:2]
    gap_s = cancelled["at_unix_s"] - stopped["at_unix_s"] - stopped["e2e_s"]
    assert write.at_s == pytest.approx(gap_s, abs=1e-5)


def _recorded(path: Path, *requests: GenerationRequest) -> list[str]:
    with Recording(path, {}) as recording:
        for number, given in enumerate(requests):
            recording.ended(_generation(number, given), "stop")
    return [line.get("blocks", "") for line in _lines(path)[-len(requests) :]]


def test_hashes_are_of_this_run_and_this_cache_key_alone(tmp_path: Path):
    first, same, longer, other = _recorded(
        tmp_path / "a",
        request(*LONG),
        request(*LONG),
        request(*LONG, 9, 9),
        request(*LONG, cache_key="b"),
    )
    assert len(first) == 3 * 8
    assert first == same == longer
    assert not {first[n : n + 8] for n in (0, 8, 16)} & {other[n : n + 8] for n in (0, 8, 16)}
    (elsewhere,) = _recorded(tmp_path / "b", request(*LONG))
    assert elsewhere[:8] != first[:8]


def test_a_log_goes_on_after_a_restart_and_a_crash(tmp_path: Path):
    path = tmp_path / "log"
    _recorded(path, request(*LONG))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at_unix_s": 12')
    _recorded(path, request(*LONG))
    assert path.read_bytes().startswith(whole + b'{"fmedge_log"')
    first, second = load_workload(str(path)).calls
    assert not set(first.blocks) & set(second.blocks)


def test_what_cannot_be_recorded_into(tmp_path: Path):
    mine = tmp_path / "mine.txt"
    mine.write_text("a letter\n")
    with pytest.raises(ConfigError, match="is no log of fmedge"):
        Recording(mine, {})
    assert mine.read_text() == "a letter\n"
    with pytest.raises(ConfigError, match="cannot write the log: No such file"):
        Recording(tmp_path / "none" / "log", {})
    with pytest.raises(ConfigError, match="cannot write the log: Is a directory"):
        Recording(tmp_path, {})
    with pytest.raises(ConfigError, match="is no plain file"):
        Recording(Path("/dev/full"), {})
    path = tmp_path / "log"
    with Recording(path, {}), pytest.raises(ConfigError, match="another server records into it"):
        Recording(path, {})
    Recording(path, {}).close()


def test_a_full_disk_is_said_once_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "log"
    write, room = os.write, [1]

    def full(fd: int, data: bytes) -> int:
        if threading.current_thread().name != "fmedge-record":
            return write(fd, data)
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= 1
        return write(fd, data[: len(data) // 2])

    with Recording(path, {}) as recording:
        recording.ended(_generation(0, request(1, 2)), "stop")
        _wait_until(path, 2)
        monkeypatch.setattr(os, "write", full)
        for number in range(20):
            recording.ended(_generation(number, request(1, 2)), "stop")
    assert len(_lines(path)) == 1
    assert path.read_bytes().endswith(b"\n")
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [f"{path}: No space left on device: no request is recorded any more"]


def _wait_until(path: Path, num_lines: int) -> None:
    deadline = threading.Event()
    for _ in range(int(DEADLINE_S * 100)):
        if path.read_bytes().count(b"\n") >= num_lines:
            return
        deadline.wait(0.01)
    raise AssertionError(f"{path} has no {num_lines} lines")


def test_a_slow_disk_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "log"
    write, may_write = os.write, threading.Event()

    def slow(fd: int, data: bytes) -> int:
        if threading.current_thread().name == "fmedge-record":
            assert may_write.wait(DEADLINE_S)
        return write(fd, data)

    monkeypatch.setattr(os, "write", slow)
    with Recording(path, {}, waiting_bytes=5000) as recording:
        for number in range(20):
            recording.ended(_generation(number, request(1, 2)), "stop")
        may_write.set()
    kept = len(_lines(path))
    assert 4 <= kept <= 6
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [
        f"{path}: the disk is too slow: some requests are left out",
        f"{path}: {20 - kept} requests are missing in it",
    ]


async def test_requests_of_many_threads_are_all_there(tmp_path: Path):
    path = tmp_path / "log"
    with Recording(path, {}) as recording:
        await asyncio.gather(
            *(asyncio.to_thread(recording.refused, "m", None, "overloaded") for _ in range(100))
        )
    assert len(_lines(path)) == 100
    recording.refused("m", None, "overloaded")  # after the end: nobody minds
    recording.close()
    assert len(_lines(path)) == 100


def test_prompts_are_not_in_it(tmp_path: Path):
    path = tmp_path / "log"
    prompt = pack(*(104, 101, 108, 108, 111) * 40)
    _recorded(path, GenerationRequest(model="m", prompt=prompt, max_tokens=3))
    (line,) = _lines(path)
    assert set(line) == {"at_unix_s", "outcome", "model", "num_prompt", "max_tokens", "e2e_s",
                         "blocks"}  # fmt: skip
