"""Small models and devices to plan with: shapes and figures by hand, sizes of real ones."""

from __future__ import annotations

from typing import Any

from fmedge.sched.provision.demand import Demand, Spread
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.plan import Plan
from fmedge.sched.provision.request import ModelRequest, PlanRequest
from fmedge.sched.provision.shape import LayerShape, ModelShape
from fmedge.types import EngineSettings, Promise

GIB = 1 << 30


def dense(
    name: str = "chat",
    *,
    quant: str = "Q4_0",
    layer_mib: int = 120,
    num_layers: int = 16,
    experts_mib: int = 0,
    is_known: bool = True,
) -> ModelShape:
    """num_layers of layer_mib (with experts_mib of routed experts in each), 8 kB of KV a token and
    layer."""
    bits = {"Q4_0": 4.5, "Q8_0": 8.5, "F16": 16.0}[quant]
    weight_bytes = (layer_mib + experts_mib) << 20
    expert_bytes = experts_mib << 20
    params = 8 * (weight_bytes - expert_bytes) / bits
    layer = LayerShape(
        weight_bytes=weight_bytes,
        num_params=params + 8 * expert_bytes / bits / 16,
        expert_bytes=expert_bytes,
        active_expert_bytes=expert_bytes / 16,
        active_expert_params=8 * expert_bytes / bits / 16,
        k_width=1024,
        head_width=128,
        v_width=1024,
        attention_width=4096,
        quant=quant.lower(),
    )
    return ModelShape(
        name=name,
        file=f"/models/{name}-{quant}.gguf",
        architecture="llama",
        quant=quant,
        ctx_train=32768,
        num_vocab=32000,
        num_embd=4096,
        num_params=8 * num_layers * weight_bytes / bits,
        layers=(layer,) * num_layers,
        input_bytes=70 << 20,
        output_bytes=100 << 20,
        output_params=32000 * 4096,
        output_quant=quant.lower(),
        num_experts=16 if experts_mib else 0,
        num_experts_used=1 if experts_mib else 0,
        is_known=is_known,
    )


def gpu(name: str, memory_gib: float, *, speed: float = 1.0, **fields: Any) -> Device:
    values: dict[str, Any] = {
        "type": "gpu",
        "backend": "CUDA",
        "memory_bytes": int(memory_gib * GIB),
        "bandwidth_gb_s": 900.0 * speed,
        "tflop_s": 140.0 * speed,
        "link_gb_s": 25.0,
        "source": "file",
    }
    return Device(name=name, **values | fields)


def cpu(memory_gib: float = 64.0) -> Device:
    return Device(
        name="CPU",
        type="cpu",
        backend="CPU",
        memory_bytes=int(memory_gib * GIB),
        bandwidth_gb_s=60.0,
        tflop_s=1.0,
        num_cores=8,
        source="file",
    )


def model(*shapes: ModelShape, given: tuple[str, ...] = (), **fields: Any) -> ModelRequest:
    engine = EngineSettings(model_path="", **fields.pop("engine", {}))
    return ModelRequest(
        name=shapes[0].name, shapes=shapes, engine=engine, given=frozenset(given), **fields
    )


def request(*models: ModelRequest, devices: tuple[Device, ...], **fields: Any) -> PlanRequest:
    return PlanRequest(models=models, devices=devices, **fields)


def stream(
    name: str = "chat", rate_per_s: float = 1.0, ttft_s: float = 1.0, tpot_s: float = 0.1
) -> Demand:
    return Demand(
        model=name,
        rate_per_s=rate_per_s,
        prompt_tokens=Spread(300, 1200),
        output_tokens=Spread(100, 300),
        promise=Promise(sla_class="interactive", ttft_s=ttft_s, tpot_s=tpot_s),
    )


def devices_of(plan: Plan, replica: str) -> list[str]:
    """Those that hold its layers, in order."""
    (found,) = [r for r in plan.replicas if r.name == replica]
    return [part.device for part in found.ranges]
