"""The change test: how often it is wrong, and how soon it is right."""

from __future__ import annotations

import random

import pytest

from fmedge.sched.drift import LASTING_S, DriftEvent, Watch
from tests.sched.steps_of import noise

STEP_S = 0.02
BLOCK = 32
REFERENCE_STEPS = 8 * BLOCK


def feed(
    watch: Watch, rng: random.Random, num_steps: int, slowdown: float = 1.0, sigma: float = 0.1
) -> tuple[int, DriftEvent] | None:
    """Noisy steps; after how many of them a change was certain."""
    for i in range(num_steps):
        watch.ratios.append(slowdown * noise(rng, sigma))
        if len(watch.ratios) == BLOCK:
            event = watch.close(STEP_S)
            if event is not None:
                return i + 1, event
    return None


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_noise_and_outliers_are_no_change(sigma: float) -> None:
    """No alarm in 20 runs of 10,000 steps: 6,240 blocks of jitter with 5 % outliers of 2-5x."""
    alarms = [
        feed(Watch("decode", BLOCK), random.Random(seed), 10_000, sigma=sigma) for seed in range(20)
    ]
    assert alarms == [None] * 20


def test_the_false_alarm_rate_under_much_noise() -> None:
    """Block medians that scatter by 18 %, more than a noisy machine's: there the threshold must
    follow the scatter. Of 30 runs of 640 blocks at most one raises an alarm."""
    alarms = 0
    for seed in range(30):
        rng = random.Random(1000 + seed)
        watch = Watch("decode", 1)
        for _ in range(640):
            watch.ratios.append(rng.lognormvariate(0.0, 0.18))
            alarms += watch.close(STEP_S) is not None
    assert alarms <= 1


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("slowdown", [1.2, 1.5, 0.8])
def test_a_lasting_change_is_seen_within_some_hundred_steps(sigma: float, slowdown: float) -> None:
    delays = []
    for seed in range(20):
        rng = random.Random(seed)
        watch = Watch("decode", BLOCK)
        assert feed(watch, rng, 1500, sigma=sigma) is None
        found = feed(watch, rng, 800, slowdown, sigma)
        assert found is not None
        delay, event = found
        delays.append(delay)
        assert event.ratio == pytest.approx(slowdown, rel=0.12)
        assert event.after_ms == pytest.approx(event.before_ms * event.ratio)
        assert event.before_ms == pytest.approx(1e3 * STEP_S, rel=0.1)
        assert abs(event.since_steps - delay) <= 3 * BLOCK
    assert sorted(delays)[10] <= 320
    assert max(delays) <= 640


def test_a_burst_of_slow_steps_is_no_change() -> None:
    rng = random.Random(3)
    watch = Watch("decode", BLOCK)
    assert feed(watch, rng, REFERENCE_STEPS + BLOCK) is None
    assert feed(watch, rng, 2 * BLOCK, slowdown=4.0) is None
    assert feed(watch, rng, 4000) is None


def test_a_change_must_last_in_time_too() -> None:
    watch = Watch("decode", 1)
    short_s = LASTING_S / 100
    for _ in range(40):
        watch.ratios.append(1.0)
        assert watch.close(short_s) is None
    delay = 0
    while delay < 100:
        delay += 1
        watch.ratios.append(1.5)
        if watch.close(short_s) is not None:
            break
    assert delay == pytest.approx(LASTING_S / (1.5 * short_s), abs=2)


def test_the_new_level_is_what_later_ones_are_compared_with() -> None:
    rng = random.Random(4)
    watch = Watch("decode", BLOCK)
    assert feed(watch, rng, 1000) is None
    assert feed(watch, rng, 1000, slowdown=1.5) is not None
    assert feed(watch, rng, 5000, slowdown=1.5) is None
    found = feed(watch, rng, 1000)
    assert found is not None
    assert found[1].ratio == pytest.approx(1 / 1.5, rel=0.1)


def test_a_change_that_creeps_is_one() -> None:
    rng = random.Random(5)
    watch = Watch("decode", BLOCK)
    assert feed(watch, rng, 1000) is None
    for i in range(200):
        found = feed(watch, rng, BLOCK, slowdown=1 + 0.3 * i / 200)
        if found:
            break
    assert found is not None
    assert 1.08 < found[1].ratio < 1.3
