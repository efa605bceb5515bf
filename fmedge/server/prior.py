"""A replica's step model from figures alone: the model file's tensors and the devices' speeds."""

from __future__ import annotations

import re
from math import prod

from msgspec import Struct

from fmedge.sched.roofline import roofline
from fmedge.sched.steptime import StepModel
from fmedge.types import EngineInfo, EngineSettings, GgufHeader

CPU_COMPUTE_EFFICIENCY = 1.0
"""A CPU's figure is no data sheet's but what numpy's float32 product reaches."""

_EXPERT = re.compile(r"_exps(\.|$)")


class PassCost(Struct, frozen=True, kw_only=True):
    """What one pass over a model reads and multiplies; of experts, those that a token meets."""

    weight_bytes: float
    num_params: float
    attention_width: int


def pass_cost(header: GgufHeader, num_embd: int) -> PassCost:
    """Of the model in one file (of a split model, of that part)."""
    architecture = str(header.metadata.get("general.architecture", ""))

    def number(key: str) -> int:
        value = header.metadata.get(f"{architecture}.{key}", 0)
        return value if isinstance(value, int) and value > 0 else 0

    names = {tensor.name for tensor in header.tensors}
    share = 1.0
    if number("expert_count") and number("expert_used_count"):
        share = min(1.0, number("expert_used_count") / number("expert_count"))
    weight_bytes = num_params = 0.0
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and "output.weight" in names:
            continue  # only looked up
        part = share if _EXPERT.search(tensor.name) else 1.0
        weight_bytes += part * tensor.nbytes
        num_params += part * prod(tensor.shape)
    width = number("attention.head_count") * number("attention.key_length")
    return PassCost(
        weight_bytes=weight_bytes, num_params=num_params, attention_width=width or num_embd
    )


def prior_model(engine: EngineSettings, info: EngineInfo) -> StepModel:
    """The roofline of a loaded model on the devices that hold it. ModelFileError if its file is
    gone. Probes the CPU where that holds weights, which takes some 50 ms."""
    from fmedge._native.devices import list_devices
    from fmedge._native.gguf import read_header
    from fmedge.server.hardware import device_speeds

    header = read_header(engine.model_path)
    cost = pass_cost(header, info.num_embd)
    # A split model's first file may hold few tensors, or none.
    whole = max(1.0, info.num_params / max(1, sum(prod(t.shape) for t in header.tensors)))
    num_cells = info.kv_tokens if info.kv_unified else info.ctx_size * info.slots
    kv_bytes = sum(row.context for row in info.memory) / max(1, num_cells)
    devices = list_devices()
    speeds = device_speeds(info.memory, devices, info.threads)
    is_cpu = all(row.device == "CPU" for row in info.memory if row.weights)
    efficiency = {"compute_efficiency": CPU_COMPUTE_EFFICIENCY} if is_cpu else {}
    return roofline(
        speeds,
        weight_bytes=max(1.0, cost.weight_bytes * whole),
        num_params=max(1.0, cost.num_params * whole),
        num_layers=max(1, info.num_layers),
        attention_width=max(1, cost.attention_width),
        kv_bytes_per_token=max(1.0, kv_bytes),
        **efficiency,
    )
