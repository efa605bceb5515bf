"""Asks llama.cpp what a model would take of devices, here or not; nothing is loaded.

The rule: llama.cpp lays models out in a child process only, since broken files make it abort.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import msgspec
from msgspec.structs import replace

from fmedge import children
from fmedge.errors import ModelFileError
from fmedge.models.names import split_of
from fmedge.replica.errand import Errand, ErrandError
from fmedge.sched.provision.device import Device
from fmedge.sched.provision.memory import Sizing
from fmedge.sched.provision.shape import ModelShape
from fmedge.types import DeviceMemory, EngineSettings

TIMEOUT_S = 30.0
"""For one question; a model of 80 layers takes some 50 ms a layout."""

_HOST = "CPU"
_PERIOD = 8  # kinds of layers recur within so many
_MIXED_MARGIN = 1.25  # for layouts of mixed models that were not tried
_ALL_EXPERTS = r"\.ffn_.*_exps"
_FAMILIES: dict[str, dict[str, Any]] = {
    "CUDA": {"row_elements": 512, "widens_kv": True},
    "ROCm": {"row_elements": 512, "widens_kv": True},
    "MUSA": {"row_elements": 512, "widens_kv": True},
    "SYCL": {"row_elements": 512},
    "Vulkan": {"alignment": 256},
    "MTL": {},
    "RPC": {"takes_host_weights": False},
}
_ANY: dict[str, Any] = {"row_elements": 512, "widens_kv": True, "alignment": 256}


def planning_device(device: Device, name: str = "") -> dict[str, Any]:
    """The fields of the `PlanningDevice` that lays tensors out as this device's backend does; of
    an unknown backend, as the most wasteful."""
    family = next((f for f in _FAMILIES if device.backend.startswith(f)), "")
    if device.type == "rpc":
        family = "RPC"
    fields = _FAMILIES.get(family, _ANY)
    return {"name": name or device.name, "memory_bytes": max(1, device.memory_bytes), **fields}


class Sizer:
    """One child for many questions, started at the first; use as `async with`.

    Every question raises ModelFileError where llama.cpp refuses the file or dies of it, or gives
    no answer in time; the next question starts a new child.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S, errand: Errand | None = None) -> None:
        self._errand = errand or Errand(children.SIZING)
        self._timeout_s = timeout_s

    async def size(
        self, path: str, engine: EngineSettings, devices: Sequence[Device] = ()
    ) -> tuple[DeviceMemory, ...]:
        """What llama.cpp would take of each device and of the host (named "CPU"): exactly, for
        this placement. devices: those that engine.devices names, in its order (a host among them
        is left out)."""
        others = [device for device in devices if not device.is_host]
        rows = await self._size(path, [(engine, [planning_device(d) for d in others])])
        return rows[0]

    async def sizing(
        self, shape: ModelShape, engine: EngineSettings, devices: Sequence[Device] = ()
    ) -> Sizing:
        """The most that several layouts take, on devices of the most wasteful kind in `devices`
        (none: a card's), and where a model has experts also with those on the host; a host alone
        has but one layout. Not exact for any one placement: `size` is."""
        sizing = await self._roles(shape, engine, devices, is_thorough=_is_mixed(shape))
        if not any(layer.expert_bytes for layer in shape.layers) or all(d.is_host for d in devices):
            return sizing
        overrides = (*engine.tensor_overrides, (_ALL_EXPERTS, _HOST))
        apart = replace(engine, tensor_overrides=overrides)
        return replace(sizing, experts=await self._roles(shape, apart, devices, is_thorough=False))

    async def check_vocab(self, path: str) -> int:
        """Tokens of the file's vocabulary: llama.cpp can open it without dying."""
        answer = await self._ask(path, {"type": "vocab", "path": path})
        return int(answer.get("num_tokens", 0))

    async def close(self) -> None:
        """Ends the child. Idempotent."""
        await self._errand.close()

    async def __aenter__(self) -> Sizer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _roles(
        self,
        shape: ModelShape,
        engine: EngineSettings,
        devices: Sequence[Device],
        *,
        is_thorough: bool,
    ) -> Sizing:
        plan = _most_wasteful(devices)
        is_host_alone = bool(devices) and all(device.is_host for device in devices)
        layouts = [
            (
                _placed(engine, shares),
                [{**plan, "name": f"device{i}"} for i in range(len(shares))],
            )
            for shares in ([()] if is_host_alone else _layouts(shape, is_thorough=is_thorough))
        ]
        rows = await self._size(shape.file, layouts)
        alone: list[DeviceMemory] = []
        several: list[DeviceMemory] = []
        behind: list[DeviceMemory] = []
        for (placed, _), found in zip(layouts[1:], rows[1:], strict=True):
            if placed.gpu_layers <= shape.num_layers:
                behind += found
            else:
                (alone if len(placed.tensor_split) == 1 else several).extend(found)
        whole_bytes = (
            sum(layer.weight_bytes for layer in shape.layers)
            + shape.input_bytes
            + shape.output_bytes
            + shape.shared_bytes
        )
        margin = _MIXED_MARGIN if _is_mixed(shape) else 1.0
        is_twice = rows[0][0].weights > whole_bytes - shape.tied_bytes
        return Sizing(
            host=_most(alone + several, is_host=True, margin=margin),
            host_layers=_most(alone + several + behind, is_host=True, margin=margin),
            host_alone=_most(rows[0], is_host=True),
            alone=_most(alone, is_host=False),
            several=_most(several, is_host=False, margin=margin),
            behind=_most(behind, is_host=False, margin=margin),
            host_tied_bytes=shape.tied_bytes if is_twice else 0,
        )

    async def _size(
        self, path: str, layouts: Sequence[tuple[EngineSettings, Sequence[dict[str, Any]]]]
    ) -> list[tuple[DeviceMemory, ...]]:
        split = split_of(path)
        answer = await self._ask(
            path,
            {
                "type": "size",
                "paths": [path] if split is None else list(split.all_paths(path)),
                "layouts": [{"engine": engine, "devices": made} for engine, made in layouts],
            },
        )
        rows = msgspec.convert(answer.get("rows", []), list[tuple[DeviceMemory, ...]])
        if len(rows) != len(layouts):
            raise ModelFileError(f"{path}: llama.cpp did not say what it takes of memory.")
        return rows

    async def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        try:
            line = await self._errand.ask(msgspec.json.encode(question), self._timeout_s)
            answer = msgspec.json.decode(line, type=dict[str, Any])
        except ErrandError as error:
            raise ModelFileError(
                f"{path}: llama.cpp cannot lay this model out safely (the process that tried "
                f"{error}). Fetch the file again, or convert it anew."
            ) from error
        except msgspec.MsgspecError as error:
            raise ModelFileError(f"{path}: an answer without sense ({error})") from error
        if answer.get("error"):
            raise ModelFileError(f"{path}: {str(answer['error']).removeprefix(f'{path}: ')}")
        return answer


def _most_wasteful(devices: Sequence[Device]) -> dict[str, Any]:
    plans = [planning_device(device) for device in devices if not device.is_host]
    if not plans:
        return {"name": "device0"}
    return {
        "name": "device0",
        "row_elements": max(int(plan.get("row_elements", 0)) for plan in plans),
        "widens_kv": any(plan.get("widens_kv", False) for plan in plans),
        "alignment": max(int(plan.get("alignment", 128)) for plan in plans),
        "takes_host_weights": any(plan.get("takes_host_weights", True) for plan in plans),
    }


def _layouts(shape: ModelShape, *, is_thorough: bool) -> list[tuple[int, ...]]:
    """Layers on each device, the head counted and the rest on the host; none at all first. Buffers
    differ with how many layers a device has, and where kinds of layers alternate also with the
    kinds that meet at its ends."""
    whole = shape.num_layers + 1
    half, third = whole // 2, whole // 3
    layouts: list[tuple[int, ...]] = [(whole,), (half, whole - half), (half,), (1, half)]
    layouts += [(1, whole - 2, 1), (whole - 1,), (1, whole - 2)]
    if is_thorough:
        layouts += [(third, third, whole - 2 * third), (1, third, whole - 1 - third)]
        layouts += [(k,) for k in range(1, _PERIOD + 1)]
        layouts += [(k, whole - k) for k in range(1, _PERIOD // 2 + 1)]
    fitting = [shares for shares in layouts if min(shares) > 0 and sum(shares) <= whole]
    return [(), *dict.fromkeys(fitting)]


def _is_mixed(shape: ModelShape) -> bool:
    """Layers of several kinds, or with states, which share little of a graph."""
    kinds = {(bool(layer.k_width), bool(layer.window)) for layer in shape.layers}
    return len(kinds) > 1 or any(layer.state_bytes for layer in shape.layers)


def _most(rows: Sequence[DeviceMemory], *, is_host: bool, margin: float = 1.0) -> int:
    most = max((row.compute for row in rows if (row.device == _HOST) == is_host), default=0)
    return int(margin * most)


def _placed(engine: EngineSettings, shares: Sequence[int]) -> EngineSettings:
    """devices: () so that the settings name none that are not here."""
    return replace(
        engine,
        rpc=(),
        devices=(),
        gpu_layers=sum(shares),
        split_mode="layer",
        tensor_split=tuple(float(share) for share in shares),
        mlock=False,
    )
