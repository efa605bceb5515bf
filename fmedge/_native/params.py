"""EngineSettings as the C struct that loads an engine, and what must live as long as it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from fmedge._native.binding import ffi, lib
from fmedge._native.threads import default_threads, host_bytes_free
from fmedge.errors import NativeError
from fmedge.types import EngineSettings

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
_FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}
_POOLING = {"": -1, "none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}

# Sequence ids beyond the slots that a unified cache gets, to hold retained prefixes.
EXTRA_UNIFIED_SEQS = 16


class EngineParams:
    """`struct`, valid inside the `with` block."""

    def __init__(
        self,
        settings: EngineSettings,
        on_progress: Callable[[float], bool] | None,
        rpc_devices: Mapping[str, str] | None = None,
    ) -> None:
        self._kept: list[Any] = []
        self._on_progress = on_progress
        self._callback_error: BaseException | None = None
        self._self_handle: Any = ffi.new_handle(self)
        self.struct: Any = ffi.new("fm_engine_params *")
        self._fill(settings, rpc_devices or {})

    def _fill(self, settings: EngineSettings, rpc_names: Mapping[str, str]) -> None:
        raw = self.struct
        raw.path = self._text(os.fspath(settings.model_path))
        raw.ctx_size = settings.ctx_size
        raw.slots = settings.slots
        raw.kv_unified = settings.kv_unified
        raw.kv_tokens = settings.kv_tokens
        raw.extra_seqs = EXTRA_UNIFIED_SEQS
        raw.batch_size = settings.batch_size
        raw.ubatch_size = min(settings.ubatch_size, settings.batch_size)
        raw.threads = settings.threads or default_threads()
        raw.gpu_layers = settings.gpu_layers
        raw.has_devices = settings.devices is not None
        raw.devices = self._texts([rpc_names.get(name, name) for name in settings.devices or ()])
        raw.num_devices = len(settings.devices or ())
        raw.split_mode = _choose("split_mode", settings.split_mode, _SPLIT_MODES)
        raw.main_gpu = settings.main_gpu
        raw.tensor_split = self._keep(ffi.new("float[]", list(settings.tensor_split)))
        raw.num_tensor_split = len(settings.tensor_split)
        raw.override_patterns = self._texts([pattern for pattern, _ in settings.tensor_overrides])
        raw.override_buffers = self._texts([buffer for _, buffer in settings.tensor_overrides])
        raw.num_overrides = len(settings.tensor_overrides)
        raw.type_k = self._text(settings.type_k)
        raw.type_v = self._text(settings.type_v)
        raw.flash_attn = _choose("flash_attn", settings.flash_attn, _FLASH_ATTN)
        raw.mmap = settings.mmap
        raw.mlock = settings.mlock
        raw.offload_kqv = settings.offload_kqv
        raw.op_offload = settings.op_offload
        raw.pooling = _choose("pooling", settings.pooling, _POOLING)
        raw.host_bytes_free = host_bytes_free()
        if self._on_progress is not None:
            raw.on_progress = lib.fm_on_load_progress
            raw.on_progress_data = self._self_handle

    def _keep(self, cdata: Any) -> Any:
        self._kept.append(cdata)
        return cdata

    def _text(self, text: str) -> Any:
        return self._keep(ffi.new("char[]", os.fsencode(text)))

    def _texts(self, texts: Any) -> Any:
        return self._keep(ffi.new("char *[]", [self._text(text) for text in texts]))

    def progress(self, fraction: float) -> bool:
        """Asks on_progress whether to go on; an exception there cancels the load."""
        if self._on_progress is None:
            return True
        try:
            return bool(self._on_progress(fraction))
        except BaseException as error:  # raised again after the C call returned
            self._callback_error = error
            return False

    def raise_callback_error(self) -> None:
        if self._callback_error is not None:
            raise self._callback_error

    def __enter__(self) -> EngineParams:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kept.clear()


def make_params(
    settings: EngineSettings,
    on_progress: Callable[[float], bool] | None,
    rpc_devices: Mapping[str, str] | None = None,
) -> EngineParams:
    """rpc_devices: what ggml calls the settings' RPC devices in this process."""
    return EngineParams(settings, on_progress, rpc_devices)


def _choose(field: str, value: str, choices: dict[str, int]) -> int:
    if value not in choices:
        names = ", ".join(repr(name) for name in choices)
        raise NativeError(f"{field} is {value!r}, but must be one of {names}")
    return choices[value]


@ffi.def_extern()  # type: ignore[untyped-decorator]
def fm_on_load_progress(fraction: float, data: Any) -> bool:
    params: EngineParams = ffi.from_handle(data)
    return params.progress(fraction)
