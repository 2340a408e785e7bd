"""What a study trained and reported, read from its events as they were written, before any are replaced by the fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from study.ledger.event_log import EventLog
from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    SessionStarted,
    TestsStarted,
    TrialDecoded,
    TrialEnded,
    TrialEpoch,
    TrialMoved,
    TrialRetried,
    TrialState,
)

E = TypeVar("E")


def read_events(folder: Path, kind: type[E]) -> list[E]:
    """The events of one kind that the study in `folder` has written so far; none where there is no study yet."""
    return [event for event in EventLog(folder).read() if isinstance(event, kind)]


def reported_epochs(folder: Path, number: int) -> list[int]:
    """The epochs that a trial reported, in the order of their events, repeated ones included."""
    return [event.epoch for event in read_events(folder, TrialEpoch) if event.number == number]


def assert_trained_once(events: Iterable[AnyEvent]) -> None:
    """No epoch is trained twice: each trial's epochs are reported one after the other, and nothing follows its end.

    Allowed is the last epoch once more after a loss (a retry, an interruption, a new driver), because its report may
    have got no answer: a worker that does not know whether its report was recorded has to make it again.
    """
    last: dict[int, int] = defaultdict(int)
    lost: set[int] = set()  # trials whose workers or driver were lost since their last report
    ended: set[int] = set()
    for event in events:
        number = getattr(event, "number", None)
        scored_later = isinstance(event, TrialDecoded | TestsStarted | ControlGiven)  # and notes of people
        assert scored_later or number not in ended, f"trial {number} had ended: {event}"
        match event:
            case SessionStarted():
                lost.update(last)
            case TrialRetried() | TrialMoved() | TrialEnded(state=TrialState.INTERRUPTED):
                lost.add(event.number)
            case TrialEnded():
                ended.add(event.number)
            case ControlGiven(command="retry", number=int(reopened)):
                ended.discard(reopened)
                lost.add(reopened)
            case TrialEpoch():
                before = last[event.number]
                again = event.epoch == before > 0 and event.number in lost
                assert again or event.epoch == before + 1, f"trial {event.number}: epoch {event.epoch} after {before}"
                last[event.number] = event.epoch
                lost.discard(event.number)
