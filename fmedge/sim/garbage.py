"""Garbage collection while a workload is played.

The rule: a simulation looks through its own objects only.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_set_aside() -> Iterator[None]:
    """What is there by now is not searched for garbage meanwhile: with numba loaded that is so much
    that the searches take a tenth of all time. One who has set something aside goes on so."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
