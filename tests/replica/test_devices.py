"""Replicas whose layers lie on device servers, and what becomes of them when one goes away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fmedge.errors import DeviceError
from fmedge.replica.interface import Replica
from fmedge.replica.local import LocalReplica, RestartSettings
from fmedge.replica.protocol import Submit
from fmedge.types import EngineSettings, SamplingParams
from tests import device_servers
from tests.replica.supervised import Recorder, pack
from tests.synthetic import cached

NUM_LAYERS = 4
NUM_TOKENS = 600
GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module")
def model() -> Path:
    return cached("demo")


@pytest.fixture
def servers() -> Iterator[Sequence[device_servers.DeviceServerProcess]]:
    with device_servers.device_servers((1, 0.25), (1, 0.5)) as running:
        yield running


def _replica(model: Path, endpoints: tuple[str, ...], *, max_failed_loads: int = 5) -> LocalReplica:
    settings = {
        "model_path": str(model),
        "ctx_size": 1024,
        "slots": 1,
        "threads": 1,
        "rpc": endpoints,
        "devices": tuple(f"RPC{i}" for i in range(len(endpoints))),
        "tensor_split": (2.0, 3.0)[: len(endpoints)],
        "gpu_layers": NUM_LAYERS + 1 if endpoints else 0,
    }
    restart = RestartSettings(initial_s=0.02, max_s=0.1, max_failed_loads=max_failed_loads)
    return LocalReplica("r0", "m", EngineSettings(**settings), restart=restart)


async def _start(replica: Replica) -> Recorder:
    recorder = Recorder()
    replica.start(recorder)
    await recorder.until(lambda: bool(recorder.of("ready") or recorder.of("gone")))
    return recorder


def _submit(replica: Replica, request_id: int, max_tokens: int) -> None:
    replica.submit(
        Submit(
            request_id=request_id, tokens=pack(*range(100, 140)), num_prompt_tokens=40,
            max_tokens=max_tokens, sampling=GREEDY, ignore_eos=True,
        )
    )  # fmt: skip


async def _generate(replica: Replica, max_tokens: int = 40) -> list[int]:
    recorder = await _start(replica)
    assert recorder.of("ready"), recorder.events
    _submit(replica, 1, max_tokens)
    await recorder.until(lambda: len(recorder.tokens(1)) == max_tokens)
    return recorder.tokens(1)


async def test_a_split_over_servers_says_the_same_as_the_host(
    model: Path, servers: Sequence[device_servers.DeviceServerProcess]
) -> None:
    split = _replica(model, tuple(server.endpoint for server in servers))
    whole = _replica(model, ())
    try:
        assert await _generate(split) == await _generate(whole)
        info = split.status().info
        assert info is not None
        assert info.layer_devices == ("RPC0", "RPC0", "RPC1", "RPC1", "RPC1")
        rows = {row.device: row for row in info.memory}
        assert rows["RPC0"].weights > 0
        assert rows["RPC1"].weights > rows["RPC0"].weights
        assert whole.status().info.layer_devices == ("CPU",) * (NUM_LAYERS + 1)
    finally:
        await split.close()
        await whole.close()


async def test_a_server_that_goes_away_is_no_requests_fault(
    model: Path, servers: Sequence[device_servers.DeviceServerProcess]
) -> None:
    replica = _replica(model, tuple(server.endpoint for server in servers))
    try:
        recorder = await _start(replica)
        _submit(replica, 1, NUM_TOKENS)
        await recorder.until(lambda: bool(recorder.tokens(1)))
        await asyncio.to_thread(servers[1].kill)
        await recorder.until(lambda: bool(recorder.of("lost")))
        ((_, reason, crashed),) = recorder.of("lost")
        assert not crashed
        # Or it hung up, where it was asked in its last moment.
        endpoint = servers[1].endpoint
        assert (
            f"the device server at {endpoint} cannot be reached" in reason
            or f"what listens at {endpoint} hung up" in reason
        )
        status = replica.status()
        assert status.state == "restarting"
    finally:
        await replica.close()


async def test_a_server_that_comes_back_is_used_again(
    model: Path, servers: Sequence[device_servers.DeviceServerProcess]
) -> None:
    # One failed load would be the end, were it not for a device that is waited for.
    replica = _replica(model, tuple(server.endpoint for server in servers), max_failed_loads=1)
    port = int(servers[0].endpoint.split(":")[1])
    again = None
    try:
        recorder = await _start(replica)
        _submit(replica, 1, NUM_TOKENS)
        await recorder.until(lambda: bool(recorder.tokens(1)))
        await asyncio.to_thread(servers[0].kill)
        await recorder.until(lambda: bool(recorder.of("lost")))
        again = await asyncio.to_thread(device_servers.start, port=port, memory_gib=0.25)
        await recorder.until(lambda: len(recorder.of("ready")) == 2)
        _submit(replica, 2, 20)
        await recorder.until(lambda: len(recorder.tokens(2)) == 20)
        assert replica.status().failure == ""
    finally:
        await replica.close()
        if again is not None:
            await asyncio.to_thread(again.stop)


async def test_a_worker_that_dies_while_its_devices_live_has_crashed(
    model: Path, servers: Sequence[device_servers.DeviceServerProcess]
) -> None:
    replica = _replica(model, tuple(server.endpoint for server in servers))
    try:
        recorder = await _start(replica)
        os.kill(replica.status().pid, signal.SIGKILL)
        await recorder.until(lambda: bool(recorder.of("lost")))
        ((_, _, crashed),) = recorder.of("lost")
        assert crashed
        await recorder.until(lambda: len(recorder.of("ready")) == 2)
    finally:
        await replica.close()


async def test_a_server_that_is_down_fails_the_load_with_its_address(model: Path) -> None:
    with device_servers.device_servers((1, 0.1)) as (server,):
        endpoint = server.endpoint
    replica = _replica(model, (endpoint,))
    try:
        recorder = await _start(replica)
        ((_, reason),) = recorder.of("gone")
        assert f"the device server at {endpoint} cannot be reached" in reason
        assert (replica.status().state, replica.status().failure) == ("failed", "device")
        assert isinstance(replica.load_error(), DeviceError)
    finally:
        await replica.close()


async def test_a_device_that_is_too_small_is_a_lack_of_memory(model: Path) -> None:
    with device_servers.device_servers((1, 0.002)) as (server,):
        replica = _replica(model, (server.endpoint,))
        try:
            recorder = await _start(replica)
            ((_, reason),) = recorder.of("gone")
            assert "RPC0" in reason
            assert replica.status().failure == "memory"
        finally:
            await replica.close()
