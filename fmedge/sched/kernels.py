"""The one file that compiles: plain functions of the estimator, with explicit signatures.

The rule: nothing here computes. What the kernels do is in paging.py, entries.py, replay.py,
gather.py and estimate.py, which also run uncompiled; import this module only where estimates are
needed, since it compiles (or loads) them. Compiled code is kept in a folder named after the sources
that went into it, so that it can never be older than they are: beside the package, in the user's
cache where that is not writable, or nowhere (then each start compiles) where neither is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
from numba import boolean, f4, f8, i4, i8, njit, types, u1, void
from numba.extending import register_jitable

from fmedge.sched import (
    arrays,
    entries,
    estimate,
    gather,
    lengths,
    paging,
    replay,
    steps,
    steptime,
)

_started_s = perf_counter()

_BODIES = (paging, entries, replay, gather, estimate)
_SOURCES = (arrays, lengths, steps, steptime, *_BODIES)


def _digest() -> str:
    """Of everything that is compiled, and of what compiles it."""
    digest = sha256(numba.__version__.encode())
    for module in _SOURCES:
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder() -> Path | None:
    """Where compiled kernels are kept: $NUMBA_CACHE_DIR if set, else the first that is writable of
    the package's __pycache__ and the user's cache folder; None if none is."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choices = [Path(__file__).parent / "__pycache__", user / "fmedge"]
    if os.environ.get("NUMBA_CACHE_DIR"):
        choices = [Path(os.environ["NUMBA_CACHE_DIR"])]
    name = f"kernels-{_digest()}"
    return next((c / name for c in choices if _is_writable(c / name)), None)


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


def _compile(signature: Any, body: Callable[..., Any]) -> Callable[..., Any]:
    options: dict[str, Any] = {"error_model": "numpy", "cache": _FOLDER is not None}
    # numba takes these from its settings alone: the folder when a function is decorated; and no
    # vectorising, since there is nothing to vectorise and looking for it took half the time
    config: Any = numba.config
    names = ("CACHE_DIR", "LOOP_VECTORIZE", "SLP_VECTORIZE")
    before = [getattr(config, name) for name in names]
    config.CACHE_DIR = str(_FOLDER or "")
    config.LOOP_VECTORIZE = config.SLP_VECTORIZE = 0
    try:
        compiled: Callable[..., Any] = njit(signature, **options)(body)
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(config, name, value)
    return compiled


run = _compile(
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
)
draw_arrivals = _compile(void(_ARRAYS, i8, f4[::1], i8, boolean), gather.draw_arrivals)
add_member = _compile(void(_ARRAYS, i8, i8), gather.add_member)
drop_member = _compile(void(_ARRAYS, i8, i8), gather.drop_member)

_took_s = perf_counter() - _started_s


def warm() -> float:
    """Seconds that compiling, or loading, took when this module was imported: call it early, on a
    thread that may wait."""
    return _took_s
