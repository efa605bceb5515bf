"""How a device's speed is measured: which products, how large, how often.

The rule: the best of several short tries is what the device can do, whatever else runs meanwhile;
and no measurement takes more than its budget by more than one try.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
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
_SMALL_BYTES = 4096
_MAX_LINK_BYTES = 16 << 20
_LINK_RUN_S = 0.01
_MIN_CACHE_BYTES = 16 << 20
_CACHES = 4  # weights are so many times what caches hold
_MIN_BYTES = 4 << 20
_MAX_BYTES = 1 << 30
_FREE_SHARE = 4  # at most this part of the free memory


class Probe(Protocol):
    """`_native.bandwidth.BandwidthProbe` is the real one."""

    def memory(self) -> tuple[int, int]: ...
    def load(self, quant: str, *, width: int, rows: int, num_matrices: int) -> int: ...
    def run(
        self, *, num_matrices: int, num_tokens: int, repeats: int = 1, first: int = 0
    ) -> float: ...
    def link(self, num_bytes: int) -> float: ...


class Speed(Struct, frozen=True, kw_only=True):
    """Of one device. link_gb_s 0: not measured, for memory is shared. used_bytes: what computing
    left in use on the device when its buffers were free again."""

    types: tuple[TypeSpeed, ...]
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
    """Figure by figure: what both measured, the device can do."""
    theirs = {speed.quant: speed for speed in other.types}
    types = [_better(mine, theirs.get(mine.quant, mine)) for mine in one.types]
    known = {speed.quant for speed in types}
    return Speed(
        types=(*types, *(speed for speed in other.types if speed.quant not in known)),
        link_gb_s=max(one.link_gb_s, other.link_gb_s),
        link_s=min(one.link_s, other.link_s),
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
    clock: Callable[[], float] = perf_counter,
) -> Speed:
    """cache_bytes: what the device's caches hold at most. NativeError where nothing could be
    measured: no memory, or none of the types."""
    start_s = clock()
    free_bytes, _ = probe.memory()
    link_gb_s, link_s = (0.0, 0.0) if is_host else _link(probe, budget_s * _LINK_SHARE, clock)
    size = _weight_bytes(free_bytes, cache_bytes)
    found: dict[str, TypeSpeed] = {}
    refusal: NativeError | None = None
    # In turns: what disturbs a while does not fall on one type alone.
    turns = [quant for _ in range(_ROUNDS) for quant in QUANTS]
    for number, quant in enumerate(turns):
        left_s = budget_s - (clock() - start_s)
        if found and left_s <= 0:
            break
        try:
            timed = _type(probe, quant, size, left_s / (len(turns) - number), clock)
        except OutOfMemoryError:
            raise
        except NativeError as error:  # a backend need not know every type
            refusal = error
        else:
            found[quant] = _better(timed, found.get(quant, timed))
    if not found:
        raise refusal or NativeError("nothing was measured")
    return Speed(
        types=tuple(found.values()),
        link_gb_s=link_gb_s,
        link_s=link_s,
        used_bytes=0 if is_host else max(0, free_bytes - _free_after(probe)),
    )


def _weight_bytes(free_bytes: int, cache_bytes: int) -> int:
    wanted = _CACHES * max(cache_bytes, _MIN_CACHE_BYTES)
    size = min(wanted, _MAX_BYTES, free_bytes // _FREE_SHARE)
    if size < _MIN_BYTES:
        raise OutOfMemoryError(f"{free_bytes >> 20} MiB free are too few to be probed")
    return size


def _type(
    probe: Probe, quant: str, size: int, budget_s: float, clock: Callable[[], float]
) -> TypeSpeed:
    start_s = clock()
    matrix_bytes = size / _NUM_MATRICES
    rows = max(_ROWS, int(matrix_bytes * 8 / (_WIDTH * _BITS[quant])) // _ROWS * _ROWS)
    num_bytes = probe.load(quant, width=_WIDTH, rows=rows, num_matrices=_NUM_MATRICES)

    pass_s = _pass_s(probe, start_s + budget_s * 0.5, clock)
    return TypeSpeed(
        quant=quant,
        bandwidth_gb_s=num_bytes / pass_s / 1e9,
        tflop_s=_flop_s(probe, quant, rows, start_s + budget_s, clock) / 1e12,
    )


def _pass_s(probe: Probe, end_s: float, clock: Callable[[], float]) -> float:
    """Seconds in which a token's products with all matrices can be had."""
    probe.run(num_matrices=_NUM_MATRICES, num_tokens=1)  # whatever comes in, or is compiled
    whole_s = max(probe.run(num_matrices=_NUM_MATRICES, num_tokens=1), 1e-9)
    if whole_s < _MIN_RUN_S:
        repeats = min(_MAX_REPEATS, ceil(_MIN_RUN_S / whole_s))
        return _best(
            lambda _: (
                probe.run(num_matrices=_NUM_MATRICES, num_tokens=1, repeats=repeats) / repeats
            ),
            end_s,
            clock,
        )
    # One matrix a try, each in turn so that none is in a cache: where other programs run, a short
    # try is left alone more often.
    one_s = _best(
        lambda number: probe.run(num_matrices=1, num_tokens=1, first=number % _NUM_MATRICES),
        end_s,
        clock,
    )
    return _NUM_MATRICES * one_s


def _flop_s(probe: Probe, quant: str, rows: int, end_s: float, clock: Callable[[], float]) -> float:
    """With a matrix that is loaded, of so many rows, or with a smaller one for a slow device."""
    few_s = _best(
        lambda number: probe.run(
            num_matrices=1, num_tokens=_FIRST_TOKENS, first=number % _NUM_MATRICES
        ),
        clock() + (end_s - clock()) * 0.2,
        clock,
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
    run_s = _best(
        lambda _: probe.run(num_matrices=1, num_tokens=num_tokens, repeats=repeats), end_s, clock
    )
    return 2 * _WIDTH * rows * num_tokens * repeats / run_s


def _best(attempt: Callable[[int], float], end_s: float, clock: Callable[[], float]) -> float:
    """The shortest of tries until end_s, of one at least; each is told its number."""
    best_s = attempt(0)
    for number in range(1, _MAX_TRIES):
        if clock() + best_s > end_s:
            break
        best_s = min(best_s, attempt(number))
    return max(best_s, 1e-9)


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
