"""How a device's speed is measured: which products, how large, how often.

The rule: of many short tries those count that were left alone, the ones not much longer than the
shortest, and of these the middle one: that is what the device does again and again, whatever else
ran meanwhile. No measurement takes more than its budget by more than one try.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from math import ceil
from statistics import median
from time import perf_counter
from typing import Protocol

from msgspec import Struct

from fmedge.errors import NativeError, OutOfMemoryError
from fmedge.sched.provision.device import TypeSpeed

QUANTS = ("q8_0", "q4_K", "f16")
"""Types to measure with, the most telling first: a slow device's budget may not last for all."""

_ROUNDS = 2
_BITS = {"q8_0": 8.5, "q4_K": 4.5, "f16": 16.0}
_WIDTH = 4096
_NUM_MATRICES = 8
_ROWS = 128  # rows are a multiple of it
_NUM_TOKENS = (512, 128, 32)
_FIRST_TOKENS = 8
_MAX_TRIES = 400
_MIN_TRIES = 3
_MIN_RUN_S = 0.004  # shorter ones are repeated, so that starting and waiting do not count
_MAX_REPEATS = 256
_PRODUCT_RUN_S = 0.002  # longer ones are made of fewer rows, and left alone more often
_LINK_SHARE = 0.15  # of the budget
_ATTENTION_SHARE = 0.2  # of the budget, where attention is measured
_ALONE = 1.25  # a try that took at most so many times as long as the shortest was left alone
_HEADS, _KV_HEADS, _HEAD_WIDTH = 8, 4, 128
_WARM_DEPTHS = (64, 448)  # less than 1 MiB, which a core's own cache holds
_COLD_DEPTH = 1024  # 2 MiB each
_WARM_CALLS = 4
_MAX_CACHES = 32
_COLD_CALLS = 32
_KV_VALUE_BYTES = 2
_MAX_PART = 4  # differences count for this part at least: both may have been disturbed
_FEW_OPS, _MANY_OPS = 16, 128
_OP_WIDTH, _OP_ROWS = 256, 2
_OP_SHARE = 0.05  # of the budget
_SMALL_BYTES = 4096
_MAX_LINK_BYTES = 16 << 20
_LINK_RUN_S = 0.01
_MIN_CACHE_BYTES = 16 << 20
_CACHES = 4  # weights are so many times what caches hold
_MIN_BYTES = 4 << 20
_MAX_BYTES = 1 << 30
_FREE_SHARE = 0.7  # of the memory, at most


class Probe(Protocol):
    """`_native.bandwidth.BandwidthProbe` is the real one."""

    def memory(self) -> tuple[int, int]: ...
    def load(self, quant: str, *, width: int, rows: int, num_matrices: int) -> int: ...
    def run(
        self, *, num_matrices: int, num_tokens: int, repeats: int = 1, first: int = 0
    ) -> float: ...
    def attention(
        self, *, heads: int, kv_heads: int, width: int, depth: int, num_caches: int, num_calls: int
    ) -> float: ...
    def link(self, num_bytes: int) -> float: ...


class Speed(Struct, frozen=True, kw_only=True):
    """Of one device. attention_gmac_s, kv_gb_s: one token's fused attention, in 1e9 products a
    second with keys and values that are at hand, and 1e9 bytes a second for fetching those that are
    not; op_s: seconds of an operation that computes next to nothing. 0: not measured. link_gb_s 0:
    not measured, for memory is shared. used_bytes: what computing left in use on the device when
    its buffers were free again."""

    types: tuple[TypeSpeed, ...]
    attention_gmac_s: float = 0.0
    kv_gb_s: float = 0.0
    op_s: float = 0.0
    link_gb_s: float = 0.0
    link_s: float = 0.0
    used_bytes: int = 0

    @property
    def bandwidth_gb_s(self) -> float:
        return max(speed.bandwidth_gb_s for speed in self.types)

    @property
    def tflop_s(self) -> float:
        """With 16-bit weights, where that was measured."""
        return next((s.tflop_s for s in self.types if s.quant == "f16"), self.types[0].tflop_s)


def better(one: Speed, other: Speed) -> Speed:
    """Figure by figure: what both measured, the device can do. But few threads meet faster than
    many: an operation's start is that of the one that reads faster."""
    theirs = {speed.quant: speed for speed in other.types}
    types = [_better(mine, theirs.get(mine.quant, mine)) for mine in one.types]
    known = {speed.quant for speed in types}
    return Speed(
        types=(*types, *(speed for speed in other.types if speed.quant not in known)),
        attention_gmac_s=max(one.attention_gmac_s, other.attention_gmac_s),
        kv_gb_s=max(one.kv_gb_s, other.kv_gb_s),
        link_gb_s=max(one.link_gb_s, other.link_gb_s),
        link_s=min(one.link_s, other.link_s),
        op_s=(one if one.bandwidth_gb_s >= other.bandwidth_gb_s else other).op_s,
        used_bytes=max(one.used_bytes, other.used_bytes),
    )


def _better(one: TypeSpeed, other: TypeSpeed) -> TypeSpeed:
    return TypeSpeed(
        quant=one.quant,
        bandwidth_gb_s=max(one.bandwidth_gb_s, other.bandwidth_gb_s),
        tflop_s=max(one.tflop_s, other.tflop_s),
    )


def measure(
    probe: Probe,
    *,
    is_host: bool,
    cache_bytes: int,
    budget_s: float,
    is_processor: bool = True,
    clock: Callable[[], float] = perf_counter,
) -> Speed:
    """cache_bytes: what the device's caches hold at most. is_processor: its attention and its least
    operation are measured too. NativeError where nothing could be measured: no memory, or none of
    the types."""
    start_s = clock()
    free_bytes, _ = probe.memory()
    link_gb_s, link_s = (0.0, 0.0) if is_host else _link(probe, budget_s * _LINK_SHARE, clock)
    size = _weight_bytes(free_bytes, cache_bytes)
    found: dict[str, _Tries] = {}
    refusal: NativeError | None = None
    types_s = budget_s * (1 - _ATTENTION_SHARE - _OP_SHARE if is_processor else 1)
    # In turns: what disturbs a while does not fall on one type alone.
    turns = [quant for _ in range(_ROUNDS) for quant in QUANTS]
    for number, quant in enumerate(turns):
        left_s = types_s - (clock() - start_s)
        if found and left_s <= 0:
            break
        try:
            timed = _type(probe, quant, size, left_s / (len(turns) - number), clock)
        except OutOfMemoryError:
            raise
        except NativeError as error:  # a backend need not know every type
            refusal = error
        else:
            found[quant] = timed + found[quant] if quant in found else timed
    if not found:
        raise refusal or NativeError("nothing was measured")
    gmac_s, kv_gb_s, op_s = 0.0, 0.0, 0.0
    if is_processor:
        op_s = _op_s(probe, min(found), clock() + budget_s * _OP_SHARE, clock)
        with contextlib.suppress(NativeError):  # nor have this kernel, nor memory for it
            gmac_s, kv_gb_s = _attention(probe, size, start_s + budget_s, clock)
    return Speed(
        types=tuple(tries.speed(quant) for quant, tries in found.items()),
        attention_gmac_s=gmac_s,
        kv_gb_s=kv_gb_s,
        op_s=op_s,
        link_gb_s=link_gb_s,
        link_s=link_s,
        used_bytes=0 if is_host else max(0, free_bytes - _free_after(probe)),
    )


def _weight_bytes(free_bytes: int, cache_bytes: int) -> int:
    wanted = _CACHES * max(cache_bytes, _MIN_CACHE_BYTES)
    size = min(wanted, _MAX_BYTES, int(_FREE_SHARE * free_bytes))
    if size < _MIN_BYTES:
        raise OutOfMemoryError(f"{free_bytes >> 20} MiB free are too few to be probed")
    return size


class _Tries:
    """Of one type: seconds for each byte of weights read, and for each operation."""

    def __init__(self, byte_s: list[float], flop_s: list[float]) -> None:
        self.byte_s, self.flop_s = byte_s, flop_s

    def __add__(self, other: _Tries) -> _Tries:
        return _Tries(self.byte_s + other.byte_s, self.flop_s + other.flop_s)

    def speed(self, quant: str) -> TypeSpeed:
        return TypeSpeed(
            quant=quant,
            bandwidth_gb_s=1e-9 / _typical(self.byte_s),
            tflop_s=1e-12 / _typical(self.flop_s),
        )


def _type(
    probe: Probe, quant: str, size: int, budget_s: float, clock: Callable[[], float]
) -> _Tries:
    start_s = clock()
    matrix_bytes = size / _NUM_MATRICES
    rows = max(_ROWS, int(matrix_bytes * 8 / (_WIDTH * _BITS[quant])) // _ROWS * _ROWS)
    num_bytes = probe.load(quant, width=_WIDTH, rows=rows, num_matrices=_NUM_MATRICES)

    matrices_s = _matrices_s(probe, start_s + budget_s * 0.5, clock)
    return _Tries(
        [matrix_s * _NUM_MATRICES / num_bytes for matrix_s in matrices_s],
        _flops_s(probe, quant, rows, start_s + budget_s, clock),
    )


def _matrices_s(probe: Probe, end_s: float, clock: Callable[[], float]) -> list[float]:
    """Seconds of a token's product with one matrix, the others between two with the same, so that
    none is in a cache; where other programs run, a short try is left alone more often."""
    probe.run(num_matrices=_NUM_MATRICES, num_tokens=1)  # whatever comes in, or is compiled
    whole_s = max(probe.run(num_matrices=_NUM_MATRICES, num_tokens=1), 1e-9)
    if whole_s >= _MIN_RUN_S:
        return _tries(
            lambda number: probe.run(num_matrices=1, num_tokens=1, first=number % _NUM_MATRICES),
            end_s,
            clock,
        )
    repeats = min(_MAX_REPEATS, ceil(_MIN_RUN_S / whole_s))
    runs_s = _tries(
        lambda _: probe.run(num_matrices=_NUM_MATRICES, num_tokens=1, repeats=repeats),
        end_s,
        clock,
    )
    return [run_s / repeats / _NUM_MATRICES for run_s in runs_s]


def _flops_s(
    probe: Probe, quant: str, rows: int, end_s: float, clock: Callable[[], float]
) -> list[float]:
    """Seconds of an operation, with a matrix that is loaded, of so many rows, or with a smaller one
    for a slow device."""
    few_s = min(
        _tries(
            lambda number: probe.run(
                num_matrices=1, num_tokens=_FIRST_TOKENS, first=number % _NUM_MATRICES
            ),
            clock() + (end_s - clock()) * 0.2,
            clock,
        )
    )
    row_token_s = few_s / rows / _FIRST_TOKENS
    fitting = int(_PRODUCT_RUN_S / (row_token_s * _NUM_TOKENS[0])) // _ROWS * _ROWS
    if fitting < rows:
        rows = max(_ROWS, fitting)
        probe.load(quant, width=_WIDTH, rows=rows, num_matrices=1)
    left_s = end_s - clock()
    num_tokens = next(
        (n for n in _NUM_TOKENS if row_token_s * rows * n * (_MIN_TRIES + 1) <= left_s),
        _NUM_TOKENS[-1],
    )
    first_s = max(probe.run(num_matrices=1, num_tokens=num_tokens), 1e-9)
    repeats = min(_MAX_REPEATS, ceil(_MIN_RUN_S / first_s))
    runs_s = _tries(
        lambda _: probe.run(num_matrices=1, num_tokens=num_tokens, repeats=repeats), end_s, clock
    )
    return [run_s / (2 * _WIDTH * rows * num_tokens * repeats) for run_s in runs_s]


def _tries(
    attempt: Callable[[int], float], end_s: float, clock: Callable[[], float]
) -> list[float]:
    """What tries take until end_s, one at least; each is told its number."""
    taken_s = [max(attempt(0), 1e-9)]
    for number in range(1, _MAX_TRIES):
        if clock() + min(taken_s) > end_s:
            break
        taken_s.append(max(attempt(number), 1e-9))
    return taken_s


def _typical(tries: list[float]) -> float:
    """The middle one of those that were left alone."""
    return median(x for x in tries if x <= _ALONE * min(tries))


def _op_s(probe: Probe, quant: str, end_s: float, clock: Callable[[], float]) -> float:
    """What one more product of next to nothing adds: its start, and the threads' meeting."""
    probe.load(quant, width=_OP_WIDTH, rows=_OP_ROWS, num_matrices=_MANY_OPS)
    left_s = end_s - clock()

    def graph_s(num_ops: int, until_s: float) -> float:
        return _typical(
            _tries(lambda _: probe.run(num_matrices=num_ops, num_tokens=1), until_s, clock)
        )

    few_s, many_s = graph_s(_FEW_OPS, end_s - left_s / 2), graph_s(_MANY_OPS, end_s)
    return max(many_s - few_s, many_s / _MAX_PART) / (_MANY_OPS - _FEW_OPS)


def _attention(
    probe: Probe, size: int, end_s: float, clock: Callable[[], float]
) -> tuple[float, float]:
    """Products and bytes, 1e9 a second each. From what a longer cache adds: to begin costs too."""

    def call_s(depth: int, num_caches: int, num_calls: int, until_s: float) -> float:
        attempt = partial(
            probe.attention, heads=_HEADS, kv_heads=_KV_HEADS, width=_HEAD_WIDTH, depth=depth,
            num_caches=num_caches, num_calls=num_calls,
        )  # fmt: skip
        return _typical(_tries(lambda _: attempt(), until_s, clock)) / num_calls

    short, long = _WARM_DEPTHS
    left_s = max(0.0, end_s - clock())
    short_s = call_s(short, 1, _WARM_CALLS, clock() + 0.1 * left_s)
    long_s = call_s(long, 1, _WARM_CALLS, clock() + 0.2 * left_s)
    token_s = max(long_s - short_s, long_s / _MAX_PART) / (long - short)
    num_bytes = 2 * _KV_VALUE_BYTES * _KV_HEADS * _HEAD_WIDTH * _COLD_DEPTH
    num_caches = max(1, min(_MAX_CACHES, size // num_bytes))
    cold_s = call_s(_COLD_DEPTH, num_caches, _COLD_CALLS, end_s)
    fetch_s = max(cold_s - short_s - (_COLD_DEPTH - short) * token_s, cold_s / _MAX_PART)
    return 2 * _HEADS * _HEAD_WIDTH / token_s / 1e9, num_bytes / fetch_s / 1e9


def _link(probe: Probe, budget_s: float, clock: Callable[[], float]) -> tuple[float, float]:
    """Bandwidth in GB/s and the latency of one transfer; a try is one there and one back."""
    start_s = clock()
    end_s = start_s + budget_s
    small_s = probe.link(_SMALL_BYTES)
    while clock() < start_s + budget_s / 3:
        small_s = min(small_s, probe.link(_SMALL_BYTES))
    num_bytes, large_s = _SMALL_BYTES, small_s
    while num_bytes < _MAX_LINK_BYTES and large_s < _LINK_RUN_S and clock() < end_s:
        num_bytes *= 8
        large_s = probe.link(num_bytes)
    while clock() + large_s < end_s:
        large_s = min(large_s, probe.link(num_bytes))
    extra_s = max(large_s - small_s, large_s / 100, 1e-9)
    return 2 * (num_bytes - _SMALL_BYTES or num_bytes) / extra_s / 1e9, small_s / 2


def _free_after(probe: Probe) -> int:
    """With the last weights free again."""
    probe.load("f16", width=_ROWS, rows=1, num_matrices=1)
    return probe.memory()[0]
