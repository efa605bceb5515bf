"""The process that opens devices: its answers, and the ways in which it may fail to give one."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from fmedge.errors import DeviceError
from fmedge.replica.probe import Prober
from tests.device_servers import device_servers

DEADLINE_S = 30.0


def scripted(script: str) -> tuple[str, ...]:
    """A child that runs `script`, with `out` where its answers go."""
    return sys.executable, "-c", f"import os, sys; out = int(sys.argv[1]); {script}"


async def test_lists_and_measures_this_machine() -> None:
    async with Prober() as prober:
        answer = await prober.devices()
        assert "CPU" in [device.name for device in answer.devices]
        assert "ggml" in answer.build
        assert 1 << 20 < answer.resident_bytes < 1 << 30
        speed = await prober.measure("CPU", threads=1, budget_s=0.3)
        assert speed.types[0].quant == "q8_0"
        assert 0.01 < speed.bandwidth_gb_s < 10_000
        assert 1e-5 < speed.tflop_s < 1000
        with pytest.raises(DeviceError, match="this machine's devices: there is no device GPU9"):
            await prober.measure("GPU9", threads=1, budget_s=0.3)
        assert (await prober.devices()).devices  # the same child goes on


async def test_measures_a_device_server() -> None:
    with device_servers((1, 0.5)) as servers:
        async with Prober(servers[0].endpoint) as prober:
            (device,) = (await prober.devices()).devices
            assert device.memory_total == 1 << 29
            speed = await prober.measure(device.name, threads=1, budget_s=0.5)
    assert speed.link_gb_s > 0
    assert speed.link_s > 0
    assert 0.01 < speed.bandwidth_gb_s < 10_000


async def test_a_server_that_dies_takes_only_the_child_along() -> None:
    with device_servers((1, 0.5)) as servers:
        async with Prober(servers[0].endpoint) as prober:
            (device,) = (await prober.devices()).devices
            servers[0].kill()
            with pytest.raises(DeviceError, match=rf"{servers[0].endpoint}: the process that"):
                await prober.measure(device.name, threads=1, budget_s=0.5)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("os.kill(os.getpid(), 6)", "died of SIGABRT"),
        ("sys.stderr.write('GPU on fire\\n'); sys.exit(3)", "ended with status 3: GPU on fire"),
        ("os.write(out, b'{}'); sys.exit(0)", "ended with status 0"),
        ("os.write(out, b'what?\\n'); input()", "an answer without sense"),
        ("os.write(out, b'{\"devices\": 3}\\n'); input()", "an answer without sense"),
        ("os.write(out, b'x' * (5 << 20)); input()", "the process that asked them"),
        ('os.write(out, b\'{"error": "no driver"}\\n\'); input()', "no driver"),
        ("sys.stderr.write('x' * 1000000); sys.exit(1)", "ended with status 1: xxx"),
    ],
)
async def test_a_child_that_fails(script: str, said: str) -> None:
    async with Prober(command=scripted(script)) as prober:
        with pytest.raises(DeviceError, match=said) as caught:
            await prober.devices(DEADLINE_S)
        assert len(str(caught.value)) < 3000
        assert "\n" not in str(caught.value)


async def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = f"held = os.open({str(fifo)!r}, os.O_WRONLY); os.write(held, b'x'); input(); input()"
    try:
        async with Prober(command=scripted(script)) as prober:
            with pytest.raises(DeviceError, match="no answer within 1 s"):
                await prober.devices(1.0)
        assert os.read(fd, 10) == b"x"
        assert os.read(fd, 10) == b""  # nobody holds its other end
    finally:
        os.close(fd)


async def test_the_next_question_starts_a_new_child(tmp_path: Path) -> None:
    once = tmp_path / "once"
    script = (
        f"path = {str(once)!r}; is_first = not os.path.exists(path); open(path, 'w').close(); "
        'input(); is_first and sys.exit(7); os.write(out, b\'{"build": "b"}\\n\'); input()'
    )
    async with Prober(command=scripted(script)) as prober:
        with pytest.raises(DeviceError, match="status 7"):
            await prober.devices(DEADLINE_S)
        assert (await prober.devices(DEADLINE_S)).build == "b"


async def test_a_cancelled_question_ends_the_child() -> None:
    prober = Prober(command=scripted("input(); input()"))
    question = asyncio.create_task(prober.devices(DEADLINE_S))
    await asyncio.sleep(0)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    await prober.close()


async def test_no_such_command() -> None:
    async with Prober(command=("/nonexistent/python",)) as prober:
        with pytest.raises(DeviceError, match="cannot start a process: No such file"):
            await prober.devices(DEADLINE_S)


async def test_the_child_ends_with_whoever_asked() -> None:
    """Its stdin is all that ties it: when that closes it ends, whatever it is doing."""
    read_fd, write_fd = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "fmedge.replica.probe_child", str(write_fd),
        stdin=asyncio.subprocess.PIPE, pass_fds=(write_fd,),
    )  # fmt: skip
    os.close(write_fd)
    try:
        assert process.stdin is not None
        process.stdin.write(b'{"type": "measure", "device": "CPU", "threads": 1, "budget_s": 60}\n')
        await process.stdin.drain()
        process.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == 0
        assert os.read(read_fd, 100) == b""
    finally:
        os.close(read_fd)
        if process.returncode is None:
            process.kill()
            await process.wait()
