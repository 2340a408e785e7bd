"""How long something may be without a sign of progress, on a clock of its own."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.runtime.stall import LONGEST_PAUSES, MOST_BETWEEN_LOOKS, USUAL_OF, StallWatch

LIMIT = 20.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wait(watch: StallWatch, clock: Clock, seconds: float) -> float | None:
    """Look once a second for so long; what the last look found, or the first one that found something."""
    for _ in range(int(seconds)):
        clock.now += 1.0
        if (found := watch.look()) is not None:
            return found
    return None


def test_silence_beyond_the_limit_is_a_stall_and_a_sign_of_progress_ends_the_silence() -> None:
    clock = Clock()
    watch = StallWatch(LIMIT, clock=clock)
    watch.note()
    assert wait(watch, clock, LIMIT) is None
    assert wait(watch, clock, 1) == LIMIT + 1
    watch.note()
    assert watch.look() is None


def test_without_a_limit_nothing_is_a_stall() -> None:
    clock = Clock()
    assert wait(StallWatch(None, clock=clock), clock, 10_000) is None


def test_the_first_sign_may_take_as_long_as_a_start_and_is_no_pause() -> None:
    clock = Clock()
    watch = StallWatch(LIMIT, first_seconds=100.0, clock=clock)
    assert wait(watch, clock, 100) is None
    watch.note()
    assert watch.limit == LIMIT
    other = StallWatch(LIMIT, first_seconds=100.0, clock=clock)
    assert wait(other, clock, 101) == 101.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 15.0), min_size=1, max_size=20))
def test_a_training_that_has_had_longer_pauses_may_have_one_three_times_as_long(pauses: list[float]) -> None:
    clock = Clock()
    watch = StallWatch(LIMIT, clock=clock)
    watch.note()
    for pause in pauses:
        for _ in range(3):  # looks at it in between
            clock.now += pause / 3
            assert watch.look() is None
        watch.note()
    assert watch.limit == pytest.approx(max(LIMIT, LONGEST_PAUSES * max(pauses)))


def test_the_time_in_which_nobody_could_look_counts_little() -> None:
    """A machine that was suspended, or a process that was frozen, wakes up with all that it watches."""
    clock = Clock()
    watch = StallWatch(LIMIT, clock=clock)
    watch.note()
    clock.now += 100_000.0
    assert watch.look() is None
    assert wait(watch, clock, LIMIT - MOST_BETWEEN_LOOKS) is None
    assert wait(watch, clock, 1) == LIMIT + 1


def test_what_was_before_a_restart_is_no_pause() -> None:
    clock = Clock()
    watch = StallWatch(LIMIT, clock=clock)
    watch.note()
    assert wait(watch, clock, LIMIT) is None
    watch.restart()
    assert wait(watch, clock, LIMIT) is None
    assert watch.limit == LIMIT


def train(watch: StallWatch, clock: Clock, seconds: float) -> None:
    """An epoch of so many seconds, with a sign of progress each second and one at its end; then the next begins."""
    watch.restart()
    left = seconds
    while left > 0.0:
        clock.now += min(left, 1.0)
        left -= 1.0
        watch.note()
    watch.note_epoch()
    watch.restart()


@settings(max_examples=100, deadline=None)
@given(
    epochs=st.lists(st.floats(0.5, 60.0), max_size=2 * USUAL_OF),
    least=st.floats(LONGEST_PAUSES, 100.0),  # no pause within an epoch makes it longer
    factor=st.none() | st.floats(0.1, 5.0),
)
def test_a_training_is_ended_after_so_many_times_its_usual_epoch_and_not_before_the_least_limit(
    epochs: list[float], least: float, factor: float | None
) -> None:
    clock = Clock()
    watch = StallWatch(least, clock=clock, epochs=factor)
    for seconds in epochs:
        train(watch, clock, seconds)
    usual = median(epochs[-USUAL_OF:]) if epochs else 0.0
    assert watch.limit == pytest.approx(max(least, usual * (factor or 0.0)))
    waited = 0.0
    while watch.look() is None:
        clock.now += 1.0
        waited += 1.0
    assert watch.limit - 1e-6 < waited < watch.limit + 1.0 + 1e-6, "it was ended at the first look after the limit"


def test_the_setting_that_the_limit_comes_from_is_named() -> None:
    clock = Clock()
    watch = StallWatch(LIMIT, clock=clock, epochs=3.0)
    assert watch.describe_limit() == "failures.stall_seconds 20"
    train(watch, clock, 5.0)
    assert (watch.limit, watch.describe_limit()) == (LIMIT, "failures.stall_seconds 20")
    for _ in range(3):
        train(watch, clock, 50.0)
    assert watch.limit == 150.0
    assert watch.describe_limit() == "failures.stall_epochs 3, its usual epoch takes 50 s"
    watch.forget_epochs()
    assert watch.limit == LIMIT


def test_the_epochs_of_a_process_that_was_frozen_are_no_longer_than_what_was_looked_at() -> None:
    clock = Clock()
    watch = StallWatch(LIMIT, clock=clock, epochs=3.0)
    clock.now += 100_000.0
    watch.note()
    watch.note_epoch()
    assert watch.usual_epoch == MOST_BETWEEN_LOOKS
