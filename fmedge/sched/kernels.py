"""The one file that compiles: plain functions of the estimator, with explicit signatures.

The rule: nothing here computes. What the kernels do is in paging.py, entries.py, replay.py,
gather.py and estimate.py, which also run uncompiled; import this module only where estimates are
needed, since it compiles (or loads) them. Compiled code is kept in a folder named after the sources
that went into it, so that it can never be older than they are: beside the package, in the user's
cache where that is not writable, or nowhere (then each start compiles) where neither is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from numba import boolean, f4, f8, i4, i8, types, u1, void
from numba.extending import register_jitable

from fmedge.sched import (
    arrays,
    compiling,
    entries,
    estimate,
    gather,
    lengths,
    paging,
    placing,
    replay,
    steps,
    steptime,
)

_started_s = perf_counter()

_BODIES = (paging, entries, replay, gather, estimate)
_SOURCES = (arrays, lengths, placing, steps, steptime, *_BODIES)


def _digest() -> str:
    files = (*(module.__file__ for module in _SOURCES), __file__)
    return compiling.digest(Path(str(file)) for file in files)


def cache_folder() -> Path | None:
    return compiling.cache_folder(Path(__file__).parent, f"kernels-{_digest()}")


_HELPERS: tuple[Callable[..., Any], ...] = (
    steptime.step_time,
    steps.budget_tokens,
    steps.chunk_tokens,
    lengths.length_cdf,
    lengths.length_quantile,
    *(f for m in _BODIES for f in vars(m).values() if getattr(f, "__module__", "") == m.__name__),
)

# LLVM would call these, with dozens of arguments: an array is seven of them.
_INLINED = (
    entries.begin_decoding,
    entries.take_slot,
    paging.growth_blocks,
    replay.begin_prefills,
    replay.plan_chunks,
)

for _helper in _HELPERS:
    register_jitable(error_model="numpy", forceinline=_helper in _INLINED)(_helper)

_types: Any = types
_ARRAYS = _types.NamedTuple(
    [
        f8[:, ::1],  # params
        f8[:, ::1],  # packed
        i4[:, ::1],  # arrival_draws
        i4[:, ::1],  # members
        f8[:, ::1],  # state
        i4[:, ::1],  # draws
        f4[:, ::1],  # cdfs
        f4[:, ::1],  # rests
        u1[:, ::1],  # strata
        i8[:, ::1],  # ints
        f8[:, ::1],  # floats
        f8[:, :, ::1],  # samples
    ],
    arrays.Arrays,
)
_SIGMAS = _types.UniTuple(f8, 3)

_FOLDER = cache_folder()
"""Of this process."""


run = compiling.compiled(
    i8(
        _ARRAYS,
        i8,
        i8[::1],
        i8[::1],
        f8,
        _SIGMAS,
        i8,
        i8,
        boolean,
        i8,
        i8,
        f8,
        i8,
        i8[::1],
        f8[:, ::1],
    ),
    estimate.run,
    _FOLDER,
)
draw_arrivals = compiling.compiled(
    void(_ARRAYS, i8, f4[::1], i8, boolean), gather.draw_arrivals, _FOLDER
)
add_member = compiling.compiled(void(_ARRAYS, i8, i8), gather.add_member, _FOLDER)
drop_member = compiling.compiled(void(_ARRAYS, i8, i8), gather.drop_member, _FOLDER)

_took_s = perf_counter() - _started_s


def warm() -> float:
    """Seconds that compiling, or loading, took when this module was imported: call it early, on a
    thread that may wait."""
    return _took_s
