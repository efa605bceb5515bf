"""What was there before a simulation is out of the collector's sight for as long, and no longer."""

from __future__ import annotations

import gc

import pytest

from fmedge.sim.garbage import garbage_set_aside


def test_it_is_set_aside_and_comes_back_after_an_error() -> None:
    def interrupted() -> None:
        with garbage_set_aside():
            assert gc.get_freeze_count() > 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gc.get_freeze_count() == 0


def test_what_others_set_aside_stays_so() -> None:
    gc.freeze()
    try:
        num = gc.get_freeze_count()
        with garbage_set_aside():
            assert gc.get_freeze_count() <= num
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
