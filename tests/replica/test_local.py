"""A local replica under every way a worker can start, fail, hang, die and end. Real processes."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fmedge.errors import ModelFileError, ModelLoadError, OutOfMemoryError, ReplicaLostError
from fmedge.replica import process
from fmedge.replica.local import RestartSettings, backoff_s
from fmedge.replica.process import WatchSettings
from fmedge.replica.protocol import Embed, Submit
from tests.replica.supervised import (
    DEADLINE_S,
    Recorder,
    make_replica,
    pack,
    process_gone,
)
from tests.replica.worker_engine import HANG, POISON, expected_output

PROMPT = pack(5, 6, 7)


def submission(request_id: int = 1, prompt: bytes = PROMPT, max_tokens: int = 30) -> Submit:
    return Submit(
        request_id=request_id,
        tokens=prompt,
        num_prompt_tokens=len(prompt) // 4,
        max_tokens=max_tokens,
    )


async def start(**options):
    replica, recorder = make_replica(**options), Recorder()
    replica.start(recorder)
    await recorder.until_count("ready", 1)
    return replica, recorder


async def test_it_loads_generates_embeds_and_ends():
    replica, recorder = await start()
    assert replica.status().state == "ready"
    pid = replica.status().pid
    replica.submit(submission())
    replica.submit(Embed(request_id=2, tokens=PROMPT))
    await recorder.until(lambda: len(recorder.tokens(1)) == 30 and recorder.of("embedded") != [])
    assert recorder.tokens(1) == expected_output(PROMPT, 30)
    assert recorder.of("embedded")[0][1].num_tokens == 3
    await replica.close()
    assert replica.status().state == "closed"
    await process_gone(pid)
    assert recorder.of("lost") == [("lost", "its connection closed", False)]
    assert len(recorder.of("gone")) == 1
    await replica.close()
    with pytest.raises(ReplicaLostError):
        replica.submit(submission())


async def test_cancel_ends_a_sequence():
    replica, recorder = await start(options="step_ms=3")
    replica.submit(submission(1, max_tokens=900))
    await recorder.until(lambda: len(recorder.tokens(1)) >= 3)
    replica.cancel((1, 99))
    # The next sequence alone is in the steps that follow.
    replica.submit(submission(2, max_tokens=5))
    await recorder.until(lambda: len(recorder.tokens(2)) == 5)
    last = recorder.of("step")[-1][1]
    assert [part.request_id for part in last.sequences] == [2]
    assert last.num_running == 0
    await replica.close()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_killed_worker_is_restarted(signal_number):
    replica, recorder = await start()
    first_pid = replica.status().pid
    os.kill(first_pid, signal_number)
    await recorder.until_count("ready", 2)
    assert [event[0] for event in recorder.events] == ["ready", "lost", "ready"]
    status = replica.status()
    assert status.num_restarts == 1
    assert status.pid != first_pid
    replica.submit(submission(max_tokens=3))
    await recorder.until(lambda: len(recorder.tokens(1)) == 3)
    await replica.close()


async def test_a_stopped_worker_is_killed_and_restarted():
    watch = WatchSettings(heartbeat_timeout_s=3.0, check_interval_s=0.1)
    replica, recorder = await start(watch=watch)
    pid = replica.status().pid
    os.kill(pid, signal.SIGSTOP)
    await recorder.until_count("ready", 2)
    await process_gone(pid)
    assert recorder.of("lost")[0][2] is True
    await replica.close()


async def test_a_step_that_never_ends_is_a_hang(caplog):
    caplog.set_level(logging.WARNING, "fmedge")
    watch = WatchSettings(step_timeout_s=0.5, check_interval_s=0.1)
    replica, recorder = await start(watch=watch)
    replica.submit(submission(1, pack(1, HANG)))
    await recorder.until_count("ready", 2)
    assert "an engine step ran for" in caplog.text
    await replica.close()


async def test_the_workers_last_words_reach_the_log(caplog):
    caplog.set_level(logging.INFO, "fmedge")
    replica, recorder = await start()
    replica.submit(submission(1, pack(1, POISON)))
    await recorder.until_count("ready", 2)
    assert "died of SIGABRT" in caplog.text
    assert "GGML_ASSERT(fake) failed" in caplog.text
    await replica.close()


@pytest.mark.parametrize(
    ("options", "error_type", "text"),
    [
        ("load=file_error", ModelFileError, "not a GGUF: fix the file"),
        ("load=memory_error", OutOfMemoryError, "needs 9 GB"),
    ],
)
async def test_a_first_load_that_fails_is_given_up(options, error_type, text):
    replica, recorder = make_replica(options=options), Recorder()
    replica.start(recorder)
    await recorder.until_count("gone", 1)
    assert text in recorder.of("gone")[0][1]
    status = replica.status()
    assert (status.state, status.num_restarts, status.pid) == ("failed", 0, None)
    error = replica.load_error()
    assert type(error) is error_type
    assert text in str(error)
    assert recorder.of("lost") == []
    await replica.close()


async def test_an_unknown_engine_is_a_load_failure():
    replica, recorder = make_replica(), Recorder()
    replica._load = type(replica._load)(replica._load.settings, "tests.no_such_module:load")
    replica.start(recorder)
    await recorder.until_count("gone", 1)
    assert "no_such_module" in recorder.of("gone")[0][1]
    await replica.close()


async def test_a_process_that_cannot_be_started_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(
        process, "worker_command", lambda fd: [str(tmp_path / "no-such-interpreter"), str(fd)]
    )
    num_fds = len(os.listdir("/proc/self/fd"))
    restart = RestartSettings(initial_s=0.01, max_s=0.02, max_failed_loads=2)
    replica, recorder = make_replica(restart=restart), Recorder()
    replica.start(recorder)
    await recorder.until_count("gone", 1)
    assert "no-such-interpreter" in recorder.of("gone")[0][1]
    await replica.close()
    assert len(os.listdir("/proc/self/fd")) == num_fds


async def test_a_worker_that_dies_in_every_load_is_given_up_after_a_bounded_number():
    restart = RestartSettings(initial_s=0.01, max_s=0.02, max_failed_loads=3)
    replica, recorder = make_replica(options="load=crash", restart=restart), Recorder()
    replica.start(recorder)
    await recorder.until_count("gone", 1)
    assert replica.status().num_restarts == 2
    assert "status 9" in str(replica.load_error())
    assert isinstance(replica.load_error(), ModelLoadError)
    await replica.close()


async def test_a_model_that_cannot_be_loaded_again_is_given_up_in_the_end(tmp_path):
    restart = RestartSettings(initial_s=0.01, max_s=0.02, max_failed_loads=3)
    replica, recorder = await start(options=f"once={tmp_path / 'loaded'}", restart=restart)
    os.kill(replica.status().pid, signal.SIGKILL)
    await recorder.until_count("gone", 1)
    assert "it was there a moment ago" in recorder.of("gone")[0][1]
    assert replica.status().num_restarts == 3
    await replica.close()


async def start_loading(tmp_path, load: str):
    """A replica whose worker is halfway through its load, which will not end by itself."""
    fifo = tmp_path / "halfway"
    os.mkfifo(fifo)
    replica, recorder = make_replica(options=f"load={load},fifo={fifo}"), Recorder()
    replica.start(recorder)
    assert await asyncio.wait_for(asyncio.to_thread(fifo.read_text), DEADLINE_S) == "halfway"
    return replica, recorder


async def test_close_cancels_a_load(tmp_path):
    replica, recorder = await start_loading(tmp_path, "block")
    pid = replica.status().pid
    await replica.close(DEADLINE_S)
    await process_gone(pid)
    assert [event[0] for event in recorder.events] == ["gone"]


async def test_close_kills_a_worker_that_does_not_listen(tmp_path):
    replica, _ = await start_loading(tmp_path, "block_deaf")
    pid = replica.status().pid
    await replica.close(0.1)
    await process_gone(pid)
    assert replica.status().state == "closed"


async def test_a_load_that_takes_too_long_is_killed():
    watch = WatchSettings(load_timeout_s=0.5, check_interval_s=0.1)
    restart = RestartSettings(initial_s=0.01, max_s=0.02, max_failed_loads=1)
    replica, recorder = make_replica(options="load=block", watch=watch, restart=restart), Recorder()
    replica.start(recorder)
    await recorder.until_count("gone", 1)
    assert "loading took longer" in recorder.of("gone")[0][1]
    await replica.close()


async def test_close_right_after_start():
    replica, recorder = make_replica(), Recorder()
    replica.start(recorder)
    await replica.close()
    assert replica.status().state == "closed"
    assert recorder.of("ready") == []


async def test_sigterm_and_sigint_are_the_fronts_business():
    replica, recorder = await start()
    pid = replica.status().pid
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    replica.submit(submission(max_tokens=3))
    await recorder.until(lambda: len(recorder.tokens(1)) == 3)
    assert recorder.of("lost") == []
    await replica.close()


FRONT = """
import asyncio, pathlib, sys
from tests.replica.supervised import Recorder, make_replica

async def main():
    fifo = pathlib.Path(sys.argv[1])
    replicas = [make_replica("a"), make_replica("b", f"load=block_deaf,fifo={fifo}")]
    recorder = Recorder()
    for replica in replicas:
        replica.start(recorder)
    await recorder.until_count("ready", 1)
    await asyncio.to_thread(fifo.read_text)
    print(*[replica.status().pid for replica in replicas], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_no_worker_outlives_a_killed_front(is_stopped, tmp_path):
    os.mkfifo(tmp_path / "halfway")
    front = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FRONT,
        tmp_path / "halfway",
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    line = await asyncio.wait_for(front.stdout.readline(), DEADLINE_S)
    pids = [int(pid) for pid in line.split()]
    assert len(pids) == 2
    if is_stopped:  # then only the kernel can end it
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    front.kill()
    await front.wait()
    for pid in pids:
        await process_gone(pid)


def test_backoff_doubles_is_jittered_and_bounded():
    settings = RestartSettings(initial_s=0.1, max_s=5.0)
    for num_failures in range(1, 200):
        longest_s = min(5.0, 0.1 * 2 ** (num_failures - 1))
        waits = [backoff_s(num_failures, settings, random.Random(seed)) for seed in range(20)]
        assert all(longest_s / 2 <= wait_s <= longest_s for wait_s in waits)
        assert len(set(waits)) > 10


async def test_a_worker_that_never_speaks_is_given_up(monkeypatch):
    monkeypatch.setattr(
        process,
        "worker_command",
        lambda fd: [sys.executable, "-c", "import time; time.sleep(3600)"],
    )
    watch = WatchSettings(start_timeout_s=0.1, check_interval_s=0.05)
    restart = RestartSettings(initial_s=0.01, max_s=0.02, max_failed_loads=1)
    replica, recorder = make_replica(watch=watch, restart=restart), Recorder()
    replica.start(recorder)
    await recorder.until_count("gone", 1)
    assert "no heartbeat" in recorder.of("gone")[0][1]
    await replica.close()
