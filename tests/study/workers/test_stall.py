"""How long something may be without a sign of progress, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.runtime.progress import follow_progress, note_progress
from study.workers.stall import LONGEST_PAUSES, MOST_BETWEEN_LOOKS, SignSender, StallWatch

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


def test_the_progress_of_a_thread_reaches_its_follower_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sent = Clock(), []
    clock.now = 50.0
    monkeypatch.setattr("study.workers.stall.time.monotonic", clock)
    note_progress()  # nobody follows
    with follow_progress(SignSender(lambda: sent.append(clock.now))):
        for _ in range(40):
            note_progress()
            clock.now += 0.25
    note_progress()
    assert sent == [50.0 + second for second in range(10)]
