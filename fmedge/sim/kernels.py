"""The simulator's compiled functions, with explicit signatures.

The rule: nothing here computes. What the kernels do is in queueing.py, stepping.py and
gathering.py, which also run uncompiled; import this module only where something is simulated, since
it compiles (or loads) them.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

from numba import boolean, f8, i8, types, void
from numba.extending import register_jitable

from fmedge.sched import compiling, emulation, placing, steps, steptime
from fmedge.sim import gathering, layout, queueing, stepping

_started_s = perf_counter()

_BODIES: tuple[Any, ...] = (queueing, stepping, gathering)
_MODULES: tuple[Any, ...] = (layout, *_BODIES, steps, steptime, placing, emulation)
_SOURCES = (*(Path(str(module.__file__)) for module in _MODULES), Path(__file__))

_FOLDER = compiling.cache_folder(Path(__file__).parent, f"kernels-{compiling.digest(_SOURCES)}")
"""Of this process."""

_SHARED: tuple[Any, ...] = (
    steps.budget_tokens,
    steps.chunk_tokens,
    steps.blended,
    steps.learned_rates,
    steptime.step_time,
)
_OWN = (
    f
    for module in _BODIES
    for f in vars(module).values()
    if getattr(f, "__module__", "") == module.__name__
)

for _helper in (*_SHARED, *_OWN):
    register_jitable(error_model="numpy")(_helper)

_types: Any = types

run = compiling.compiled(
    i8(
        i8[:, ::1],  # ints
        f8[::1],  # floats
        f8[:, ::1],  # log
        f8,  # until_s
        boolean,  # is_peek
    ),
    stepping.run,
    _FOLDER,
)
put = compiling.compiled(void(i8[:, ::1], i8, i8, i8, i8, i8, i8), queueing.put, _FOLDER)
take_out = compiling.compiled(void(i8[:, ::1], i8), queueing.take_out, _FOLDER)
send_back = compiling.compiled(void(i8[:, ::1], i8), queueing.send_back, _FOLDER)
look_ahead = compiling.compiled(
    _types.Tuple([i8, f8])(i8[:, ::1], i8[:, ::1], f8[::1], f8[:, ::1], f8[::1]),
    stepping.look_ahead,
    _FOLDER,
)
run_all = compiling.compiled(
    i8(i8[:, :, ::1], f8[:, ::1], f8[:, :, ::1], f8, i8[::1]), gathering.run_all, _FOLDER
)
gather = compiling.compiled(
    _types.UniTuple(i8, 2)(i8[:, :, ::1], f8[:, ::1], i8[:, ::1], f8[:, ::1]),
    gathering.gather,
    _FOLDER,
)

_took_s = perf_counter() - _started_s


def warm() -> float:
    """Seconds that compiling, or loading, took when this module was imported."""
    return _took_s
