"""A plan carried out over unequal device servers, beside llama.cpp's own split of the same devices.

The servers are measured, the model is planned onto them by speed, loaded with the plan's settings
and with llama.cpp's own (by free memory), in turn. Looked at are where the layers went, whether the
greedy output is the unsplit model's, and how fast it decodes beside what the plan had predicted.
Outputs are compared without flash attention, whose sums in llama.cpp depend on the number of
threads: on a random model's near ties, so does the output then, split or not.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from array import array
from dataclasses import dataclass

from msgspec.structs import replace

from bench.context import Bench, Outcome, Skipped
from fmedge._native.engine import Engine
from fmedge._native.gguf import read_header
from fmedge._native.sampler import Sampler
from fmedge.config.rpc import RpcConfig
from fmedge.sched.provision import cost
from fmedge.sched.provision.apply import differences, reported
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.plan import Plan, PlannedReplica
from fmedge.sched.provision.request import ModelRequest, PlanRequest
from fmedge.sched.provision.shape import ModelShape
from fmedge.sched.provision.shapes import shape_of
from fmedge.server.devices import gather
from fmedge.server.planning import make_plan
from fmedge.types import EngineInfo, EngineSettings, SamplingParams
from tests import synthetic
from tests.device_servers import device_servers

ROW = "plan-split"
CASES = {
    "fast one too small": ((2, 0.15), (1, 0.6)),
    "slow one left out": ((1, 0.6), (2, 0.6)),
    "three": ((1, 0.11), (2, 0.13), (1, 0.5)),
}
"""Threads and memory in GiB of each case's servers."""

NUM_LAYERS = 16
NUM_PROMPT = 256
NUM_DECODE = 64
CTX_SIZE = 1024
LEAST = 1.0
MOST_ERROR = 0.15


@dataclass(frozen=True)
class Run:
    """One load: the tokens that it gave and how fast it decoded."""

    tokens: tuple[int, ...]
    decode_tok_s: float
    info: EngineInfo


async def run(bench: Bench) -> list[Outcome | Skipped]:
    model = synthetic.cached("bench40m", n_embd=1024, n_layers=NUM_LAYERS, n_ff=2816)
    shape = shape_of([read_header(model)], "split")
    alone = EngineSettings(
        model_path=str(model), ctx_size=CTX_SIZE, slots=1, threads=bench.threads, devices=(),
        gpu_layers=0, flash_attn="off",
    )  # fmt: skip
    whole = await asyncio.to_thread(_load_and_run, alone)
    outcomes: list[Outcome | Skipped] = []
    for name, sizes in CASES.items():
        with device_servers(*sizes) as servers:
            endpoints = tuple(server.endpoint for server in servers)
            outcomes += await _case(bench, name, shape, endpoints, whole)
    return outcomes


async def _case(
    bench: Bench, name: str, shape: ModelShape, endpoints: tuple[str, ...], whole: Run
) -> list[Outcome]:
    servers = [RpcConfig(where=ROW, endpoint=endpoint) for endpoint in endpoints]
    devices = await gather("", servers, folder=None)
    plan = await _plan(bench, shape, devices)
    planned = plan.replicas[0]
    bench.say(f"  {name}:")
    for device in devices:
        layers = [
            f"{r.first_layer}-{r.last_layer}" for r in planned.ranges if r.device == device.name
        ]
        bench.say(
            f"    {device.name}: {device.bandwidth_gb_s:.1f} GB/s, {device.capacity_bytes >> 20} "
            f"MiB, layers {layers[0] if layers else 'none'}"
        )
    point = cost.OperatingPoint(
        prompt_tokens=NUM_PROMPT, output_tokens=NUM_DECODE, depth=NUM_PROMPT + NUM_DECODE // 2
    )
    by_name = {device.name: device for device in devices}
    predicted = cost.predict(shape, planned.engine, planned.ranges, by_name, point).decode_tok_s
    own = replace(
        planned.engine, rpc=endpoints, devices=endpoints, tensor_split=(), gpu_layers=-1
    )  # fmt: skip
    ours: list[Run] = []
    theirs: list[Run] = []
    for number in range(bench.rounds + 1):
        ours.append(await asyncio.to_thread(_load_and_run, planned.engine))
        theirs.append(await asyncio.to_thread(_load_and_run, own))
        bench.say(
            f"    round {number}: planned {ours[-1].decode_tok_s:.1f} tok/s, llama.cpp's own "
            f"{theirs[-1].decode_tok_s:.1f}, predicted {predicted:.1f}"
        )
    exact = await asyncio.to_thread(_load_and_run, replace(planned.engine, flash_attn="off"))
    is_same = exact.tokens == whole.tokens
    uses = [u.memory for d in plan.devices for u in d.breakdown if u.replica == planned.name]
    wrong = [text for made in ours for text in differences(planned, made.info, uses)]
    return _judge(name, planned, ours[1:], theirs[1:], wrong, is_same, predicted)


async def _plan(bench: Bench, shape: ModelShape, devices: tuple[Device, ...]) -> Plan:
    """One replica of one slot on the servers alone."""
    engine = EngineSettings(model_path="", ctx_size=CTX_SIZE, slots=1, threads=bench.threads)
    wanted = ModelRequest(
        name="split",
        shapes=(shape,),
        engine=engine,
        given=frozenset(("ctx_size", "slots", "type_k", "type_v", "batch_size", "ubatch_size")),
        max_replicas=1,
        excluded=frozenset(device.name for device in devices if not device.endpoint),
    )
    return await make_plan(PlanRequest(models=(wanted,), devices=devices))


def _judge(
    name: str,
    planned: PlannedReplica,
    ours: list[Run],
    theirs: list[Run],
    wrong: list[str],
    is_same: bool,
    predicted: float,
) -> list[Outcome]:
    ratios = tuple(a.decode_tok_s / b.decode_tok_s for a, b in zip(ours, theirs, strict=True))
    measured = statistics.median(run.decode_tok_s for run in ours)
    layers = reported(planned, ours[-1].info).layer_devices
    detail = {
        "layers": layers,
        "llama.cpp's own": theirs[-1].info.layer_devices,
        "differences": sorted(set(wrong)),
        "predicted_tok_s": predicted,
        "measured_tok_s": [run.decode_tok_s for run in ours],
        "own_tok_s": [run.decode_tok_s for run in theirs],
    }
    return [
        Outcome(ROW, f"{name}: layers and bytes otherwise than planned", len(detail["differences"]),
                "", 0, False, detail=detail),
        Outcome(ROW, f"{name}: greedy output equal to the unsplit model's", float(is_same), "",
                1.0, True),
        Outcome(ROW, f"{name}: decode off the prediction", abs(measured / predicted - 1) * 100, "%",
                MOST_ERROR * 100, False),
        Outcome(ROW, f"{name}: decode against llama.cpp's own split", statistics.median(ratios),
                "x", LEAST, True, ratios),
    ]  # fmt: skip


def _load_and_run(settings: EngineSettings) -> Run:
    """Load, prefill, decode greedily. The median step counts: a spell of other work on the cores
    is no property of a split."""
    with Engine.load(settings) as engine:
        sampler = Sampler(SamplingParams(temperature=0.0), engine.info.num_vocab)
        prompt = array("i", range(1000, 1000 + NUM_PROMPT))
        engine.batch.clear()
        row = engine.batch.add(0, 0, prompt.tobytes(), want_logits=True)
        engine.step()
        tokens: list[int] = []
        steps_s: list[float] = []
        for pos in range(NUM_PROMPT, NUM_PROMPT + NUM_DECODE):
            started_s = time.perf_counter()
            tokens += engine.sample([row], [sampler])
            engine.batch.clear()
            row = engine.batch.add_token(0, pos, tokens[-1])
            engine.step()
            steps_s.append(time.perf_counter() - started_s)
        return Run(tuple(tokens), 1.0 / statistics.median(steps_s), engine.info)
