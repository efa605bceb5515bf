"""How fast a device multiplies and is reached, timed through ggml; fm_bandwidth.h has an example.

The rule: a device that fails badly ends the process, so only a process that may end comes here.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from fmedge._native.binding import check, ffi, lib


class BandwidthProbe:
    """One device, opened. device: ggml's name; threads: where it is the CPU, 0 as ggml likes.

    NativeError where there is no such device; OutOfMemoryError where it cannot hold what is asked.
    """

    def __init__(self, device: str, threads: int = 0) -> None:
        out = ffi.new("fm_bandwidth **")
        check(lib.fm_bandwidth_open(device.encode(), threads, out))
        self._raw: Any = out[0]

    def memory(self) -> tuple[int, int]:
        """Bytes free and in all, by the device's own account."""
        num_free, num_total = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        lib.fm_bandwidth_memory(self._raw, num_free, num_total)
        return int(num_free[0]), int(num_total[0])

    def load(self, quant: str, *, width: int, rows: int, num_matrices: int) -> int:
        """Puts matrices of [rows][width] of a ggml type there; returns the bytes of them all.
        NativeError where the device does not multiply this type."""
        num_bytes = ffi.new("uint64_t *")
        check(
            lib.fm_bandwidth_load(
                self._raw, quant.encode(), width, rows, num_matrices, num_bytes
            )
        )  # fmt: skip
        return int(num_bytes[0])

    def run(self, *, num_matrices: int, num_tokens: int, repeats: int = 1, first: int = 0) -> float:
        """Seconds of `repeats` times the products of so many matrices, from number `first` on,
        with so many tokens."""
        seconds = ffi.new("double *")
        check(lib.fm_bandwidth_run(self._raw, first, num_matrices, num_tokens, repeats, seconds))
        return float(seconds[0])

    def attention(
        self, *, heads: int, kv_heads: int, width: int, depth: int, num_caches: int, num_calls: int
    ) -> float:
        """Seconds of num_calls times one token's fused attention over `depth` tokens of f16, in
        num_caches caches in turn. NativeError where the device has no such kernel."""
        asked = ffi.new("fm_attention *", (heads, kv_heads, width, depth, num_caches, num_calls))
        seconds = ffi.new("double *")
        check(lib.fm_bandwidth_attention(self._raw, asked, seconds))
        return float(seconds[0])

    def link(self, num_bytes: int) -> float:
        """Seconds until so many bytes are there and back."""
        seconds = ffi.new("double *")
        check(lib.fm_bandwidth_link(self._raw, num_bytes, seconds))
        return float(seconds[0])

    def close(self) -> None:
        """Idempotent."""
        raw, self._raw = self._raw, ffi.NULL
        lib.fm_bandwidth_close(raw)

    def __enter__(self) -> BandwidthProbe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
