"""The process that lays models out for planning: its answers, and files that kill it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fmedge._native.gguf import read_header
from fmedge.errors import ModelFileError
from fmedge.replica.errand import Errand, ErrandError
from fmedge.replica.sizing import Sizer
from fmedge.sched.provision.apply import engine_of
from fmedge.sched.provision.device import HOST, Device
from fmedge.sched.provision.memory import exact_memory, replica_memory
from fmedge.sched.provision.plan import Range
from fmedge.sched.provision.shapes import shape_of
from fmedge.types import EngineSettings
from tests import shapes

NUM_LAYERS = 8


def device(name: str, **fields: Any) -> Device:
    kind = {"type": "gpu", "backend": "CUDA", **fields}
    return Device(name=name, memory_bytes=1 << 34, bandwidth_gb_s=500.0, tflop_s=50.0, **kind)


DEVICES = {
    HOST: device(HOST, type="cpu", backend="CPU", backend_bytes=1000),
    **{f"gpu{i}": device(f"gpu{i}", backend_bytes=2000) for i in range(4)},
}


@pytest.fixture
async def sizer() -> AsyncIterator[Sizer]:
    async with Sizer() as sizer:
        yield sizer


def settings(path: Path, **fields: Any) -> EngineSettings:
    return EngineSettings(
        model_path=str(path), **{"ctx_size": 1024, "slots": 2, "threads": 1, **fields}
    )


def ranges_of(layers: tuple[int, ...], num_host_experts: int = 0) -> tuple[Range, ...]:
    """Of the host, then of each card; the head counts."""
    found, first = [], 0
    for name, count in zip(DEVICES, layers, strict=False):
        if count:
            apart = 0 if name == HOST else num_host_experts
            found.append(
                Range(
                    device=name, first_layer=first, last_layer=first + count - 1,
                    num_host_experts=apart,
                )
            )  # fmt: skip
        first += count
    return tuple(found)


LAYOUTS = (
    (9,),
    (0, 9),
    (4, 5),
    (0, 5, 4),
    (0, 1, 8),
    (0, 8, 1),
    (3, 2, 4),
    (1, 2, 3, 3),
    (0, 3, 3, 3),
    (0, 2, 2, 2, 3),
)


@pytest.mark.parametrize("architecture", ["llama", "qwen3moe", "gemma3", "jamba", "qwen3next"])
async def test_no_placement_takes_more_than_its_plan_says(
    tmp_path: Path, sizer: Sizer, architecture: str
) -> None:
    path = shapes.write_shape(tmp_path / "m.gguf", architecture, num_layers=NUM_LAYERS)
    shape = shape_of([read_header(path)])
    base = settings(path)
    sizing = await sizer.sizing(shape, base, list(DEVICES.values()))
    has_experts = any(layer.expert_bytes for layer in shape.layers)
    for layers in LAYOUTS:
        for num_host_experts in (0, 2) if has_experts and len(layers) > 1 else (0,):
            ranges = ranges_of(layers, num_host_experts)
            engine = engine_of(ranges, shape, DEVICES, base)
            others = [DEVICES[part.device] for part in ranges]
            rows = await sizer.size(str(path), engine, others)
            exact = exact_memory(shape, engine, ranges, DEVICES, rows)
            planned = replica_memory(shape, engine, ranges, DEVICES, sizing)
            bounded = replica_memory(shape, engine, ranges, DEVICES)
            assert [use.device for use in exact] == [use.device for use in planned]
            for real, plan, bound in zip(exact, planned, bounded, strict=True):
                assert real.weights <= plan.weights <= bound.weights
                assert real.context <= plan.context == bound.context
                assert real.compute <= min(plan.compute, bound.compute), (layers, real, plan)
                assert real.backend == plan.backend == bound.backend
            # the layers' pads are what a plan may have too much of
            assert sum(use.weights for use in planned) <= 1.03 * sum(use.weights for use in exact)


async def test_a_file_that_llama_cpp_dies_of_is_an_error_and_the_next_one_is_not(
    tmp_path: Path, sizer: Sizer
) -> None:
    bad = shapes.write_shape(tmp_path / "bad.gguf", "qwen3moe", keys={"expert_count": 5000})
    good = shapes.write_shape(tmp_path / "good.gguf", "llama")
    with pytest.raises(ModelFileError, match=r"cannot lay this model out safely.*SIGABRT"):
        await sizer.size(str(bad), settings(bad, gpu_layers=0))
    rows = await sizer.size(str(good), settings(good, gpu_layers=0))
    assert [row.device for row in rows] == [HOST]


async def test_what_llama_cpp_refuses_is_said_once_and_the_child_lives(
    tmp_path: Path, sizer: Sizer
) -> None:
    path = shapes.write_shape(tmp_path / "m.gguf", "llama", name="nonesuch")
    with pytest.raises(ModelFileError, match="unknown model architecture") as refused:
        await sizer.size(str(path), settings(path, gpu_layers=0))
    assert str(refused.value).count(str(path)) == 1
    with pytest.raises(ModelFileError, match="No such file"):
        await sizer.check_vocab(str(tmp_path / "absent.gguf"))


async def test_vocabularies_are_opened_where_they_can_do_no_harm(
    tmp_path: Path, sizer: Sizer
) -> None:
    path = shapes.write_shape(tmp_path / "m.gguf", "llama")
    assert await sizer.check_vocab(str(path)) == shapes.VOCAB
    split, _ = shapes.write_split(tmp_path, "llama")
    assert await sizer.check_vocab(str(split)) == shapes.VOCAB


async def test_a_file_that_changed_is_read_again(tmp_path: Path, sizer: Sizer) -> None:
    path = shapes.write_shape(tmp_path / "m.gguf", "llama", num_layers=4)
    small = await sizer.size(str(path), settings(path, gpu_layers=0))
    path.unlink()
    shapes.write_shape(path, "llama", num_layers=6)
    large = await sizer.size(str(path), settings(path, gpu_layers=0))
    assert small[0].weights < large[0].weights


CHILD = """
import os, sys
from fmedge.replica.errand import answer_questions
def answer(line):
    if line == b"die": os._exit(7)
    if line == b"hang":
        import threading
        threading.Event().wait()
    return line + b"!"
answer_questions(int(sys.argv[1]), answer)
"""


def errand() -> Errand:
    return Errand("", command=(sys.executable, "-P", "-c", CHILD))


async def test_an_errand_outlives_its_child() -> None:
    async with errand() as asked:
        assert await asked.ask(b"a", 30.0) == b"a!"
        first = asked.pid
        with pytest.raises(ErrandError, match="ended with status 7"):
            await asked.ask(b"die", 30.0)
        assert await asked.ask(b"b", 30.0) == b"b!"
        assert asked.pid != first
        assert asked.pid is not None
        os.kill(asked.pid, signal.SIGKILL)
        with pytest.raises(ErrandError, match="SIGKILL"):
            await asked.ask(b"c", 30.0)


async def test_a_child_that_hangs_is_killed() -> None:
    async with errand() as asked:
        await asked.ask(b"a", 30.0)
        pid = asked.pid
        with pytest.raises(ErrandError, match="no answer within"):
            await asked.ask(b"hang", 0.2)
        assert asked.pid is None
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_questions_wait_for_their_turn_and_get_their_own_answers() -> None:
    async with errand() as asked:
        lines = [str(i).encode() for i in range(20)]
        assert await asyncio.gather(*(asked.ask(line, 30.0) for line in lines)) == [
            line + b"!" for line in lines
        ]


async def test_a_child_ends_with_whoever_asks(tmp_path: Path) -> None:
    asked = errand()
    await asked.ask(b"a", 30.0)
    pid = asked.pid
    await asked.close()
    await asked.close()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_that_cannot_start_is_an_error() -> None:
    asked = Errand("", command=("/nonexistent/python",))
    with pytest.raises(ErrandError, match="could not be started"):
        await asked.ask(b"a", 5.0)
    await asked.close()


@pytest.mark.parametrize("architecture", ["llama", "qwen3moe", "gemma3"])
async def test_on_a_host_alone_a_plan_says_just_what_its_one_placement_takes(
    tmp_path: Path, sizer: Sizer, architecture: str
) -> None:
    path = shapes.write_shape(tmp_path / "m.gguf", architecture, num_layers=NUM_LAYERS)
    shape = shape_of([read_header(path)])
    base = settings(path)
    host = next(device for device in DEVICES.values() if device.is_host)
    sizing = await sizer.sizing(shape, base, [host])
    ranges = ranges_of((NUM_LAYERS + 1,), 0)
    engine = engine_of(ranges, shape, {host.name: host}, base)
    rows = await sizer.size(str(path), engine, [host])
    (exact,) = exact_memory(shape, engine, ranges, {host.name: host}, rows)
    (planned,) = replica_memory(shape, engine, ranges, {host.name: host}, sizing)
    assert planned.compute == exact.compute > 0
