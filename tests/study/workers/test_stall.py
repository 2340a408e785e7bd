"""Signs of progress on their way to a trial's driver, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from model.runtime.progress import follow_progress, note_progress
from study.workers.stall import SignSender


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


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
