"""The provisioner's compiled functions, with explicit signatures.

The rule: nothing here computes. What the kernels do is in walk.py, beam.py and master.py, which
also run uncompiled; import this module only where something is planned, since it compiles (or
loads) them.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

from numba import boolean, f8, i8, types
from numba.extending import register_jitable

from fmedge.sched import compiling
from fmedge.sched.provision import beam, master, walk

_started_s = perf_counter()

_SOURCES = tuple(
    Path(str(file)) for file in (walk.__file__, beam.__file__, master.__file__, __file__)
)

_FOLDER = compiling.cache_folder(Path(__file__).parent, f"kernels-{compiling.digest(_SOURCES)}")
"""Of this process."""

for _helper in (*vars(beam).values(), *vars(walk).values()):
    if getattr(_helper, "__module__", "") in (beam.__name__, walk.__name__):
        register_jitable(error_model="numpy")(_helper)

_types: Any = types

cheapest_walk = compiling.compiled(
    _types.Tuple([f8, i8, i8, f8])(
        f8[:, :, ::1],  # cost_sum
        i8[:, :, ::1],  # byte_sum
        i8[:, :, ::1],  # host_sum
        f8[::1],  # fixed_s
        i8[::1],  # fixed_bytes
        i8[::1],  # last_bytes
        f8[:, ::1],  # hop
        i8[::1],  # devices
        i8[::1],  # counts
        i8,  # host
        i8,  # must
        f8,  # weight
        i8[:, ::1],  # most
        i8[:, ::1],  # least
        f8[:, ::1],  # price
        f8,  # max_work
        boolean,  # wants_simple
        i8[:, ::1],  # path
    ),
    walk.cheapest_walk,
    _FOLDER,
)

solve = compiling.compiled(
    i8(f8[::1], f8[:, ::1], f8[::1], i8[::1], f8[:, ::1], f8[::1], f8[::1], i8),
    master.solve,
    _FOLDER,
)

_took_s = perf_counter() - _started_s


def warm() -> float:
    """Seconds that compiling, or loading, took when this module was imported."""
    return _took_s
