"""What llama.cpp itself would allocate for a model on devices that need not be here.

The rule: nothing is allocated and no weight is read; llama.cpp lays the model out on planning
devices (fm_sizing.h). It aborts the process over some broken files: call this in one that may end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from fmedge._native import gemm
from fmedge._native.binding import check, error_text, ffi, lib
from fmedge._native.logs import LogCursor
from fmedge._native.params import EngineParams
from fmedge.errors import ModelLoadError, NativeError, OutOfMemoryError
from fmedge.types import DeviceMemory, EngineSettings

_MAX_ROWS = 64


class PlanningDevice(Struct, frozen=True, kw_only=True):
    """A device as ggml lays tensors out on it. alignment: of a tensor, in bytes. row_elements: a
    quantised tensor's last row is padded to so many. has_events: steps overlap over several such
    devices. takes_host_weights: it computes large products whose weights are on the host.
    widens_kv: attention works on a 16-bit copy of K and V of other types."""

    name: str
    memory_bytes: int = 1 << 40
    alignment: int = 128
    row_elements: int = 0
    has_events: bool = True
    takes_host_weights: bool = True
    widens_kv: bool = False


class HeaderCopy:
    """A model file's header without vocabulary, in memory: what sizing reads, once per file.

    ModelFileError if a part is broken. Close it, or use it in a `with` block.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._fd = os.memfd_create("fmedge-header", os.MFD_CLOEXEC)
        try:
            texts = [ffi.new("char[]", os.fsencode(path)) for path in paths]
            check(lib.fm_sizing_copy_header(ffi.new("char *[]", texts), len(texts), self._fd))
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self._fd}"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> HeaderCopy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def size_model(
    header: HeaderCopy, engine: EngineSettings, devices: Sequence[PlanningDevice]
) -> tuple[DeviceMemory, ...]:
    """What the engine would take of each device and of the host ("CPU"), where `devices` stand for
    engine.devices: gpu_layers, tensor_split and tensor_overrides place the layers as they do in a
    load. Compute is llama.cpp's estimate of the buffers that it reserves.

    ModelLoadError or OutOfMemoryError with llama.cpp's last complaints; NativeError for two devices
    of one name, or settings that cannot be.
    """
    if len({device.name for device in devices}) != len(devices):
        raise NativeError("planning devices need names of their own")
    cursor = LogCursor()
    names = [ffi.new("char[]", os.fsencode(device.name)) for device in devices]
    raw: Any = ffi.new("fm_plan_device[]", len(devices))
    for slot, device, name in zip(raw, devices, names, strict=True):
        slot.name = name
        slot.memory_bytes = device.memory_bytes
        slot.alignment = device.alignment
        slot.row_elements = device.row_elements
        slot.has_events = device.has_events
        slot.takes_host_weights = device.takes_host_weights
        slot.widens_kv = device.widens_kv
    handle_out = ffi.new("fm_engine **")
    with EngineParams(engine, None) as params:
        path = ffi.new("char[]", os.fsencode(header.path))
        params.struct.path = path
        params.struct.is_plan = True
        params.struct.plan_devices = raw
        params.struct.num_plan_devices = len(devices)
        gemm.reserve_exactly(True)
        try:
            code = lib.fm_engine_load(params.struct, handle_out)
        finally:
            gemm.reserve_exactly(False)
    if code < 0:
        raise _error(engine.model_path, code, cursor.problems())
    try:
        return _rows(handle_out[0])
    finally:
        lib.fm_engine_free(handle_out[0])


def _rows(handle: Any) -> tuple[DeviceMemory, ...]:
    rows = ffi.new("fm_memory_row[]", _MAX_ROWS)
    num_rows = check(lib.fm_engine_memory(handle, rows, _MAX_ROWS))
    return tuple(
        DeviceMemory(
            device=ffi.string(row.device).decode("utf-8", "replace"),
            weights=row.weights,
            context=row.context,
            compute=row.compute,
        )
        for row in rows[0:num_rows]
    )


def _error(path: str, code: int, problems: str) -> Exception:
    text = error_text()
    if code == lib.FM_ERR_ARGUMENT:
        return NativeError(text)
    if code == lib.FM_ERR_MEMORY:
        return OutOfMemoryError(f"{path}: {text}")
    return ModelLoadError(f"{path}: {text}" + (f"\n{problems}" if problems else ""))
