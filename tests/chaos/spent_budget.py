"""What the trials of a study have used, counted from the lines of its events without the study's own fold, and how far
a budget may be passed or left unused."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from study.ledger.budget_events import TestsStarted
from study.ledger.events import (
    AnyEvent,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialEnded,
    TrialEpoch,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
)

Span = tuple[float, float]  # Unix seconds, the first and the last


@dataclass
class TrialTimes:
    """When one trial held workers, and when it reported meanwhile."""

    spans: list[Span] = field(default_factory=list)
    reports: list[list[float]] = field(default_factory=list)  # of each span
    epochs: int = 0  # that are planned

    def estimate_whole(self) -> float | None:
        """The seconds that it would hold workers from start to end, by its slowest start, epoch and end; None before
        any epoch but the first was reported."""
        starts = [times[0] - span[0] for span, times in zip(self.spans, self.reports, strict=True) if times]
        steps = [late - early for times in self.reports for early, late in itertools.pairwise(times)]
        ends = [span[1] - times[-1] for span, times in zip(self.spans, self.reports, strict=True) if times]
        return max(starts) + (self.epochs - 1) * max(steps) + max(ends) if steps else None


def read_times(events: Iterable[AnyEvent]) -> dict[int, TrialTimes]:
    """By trial; the span that a killed driver left open ends with that driver's last event."""
    trials: dict[int, TrialTimes] = defaultdict(TrialTimes)
    open_since: dict[int, tuple[float, list[float]]] = {}
    last = 0.0

    def close(number: int, time: float) -> None:
        if number in open_since:
            start, reports = open_since.pop(number)
            trials[number].spans.append((start, time))
            trials[number].reports.append(reports)

    for event in events:
        match event:
            case SessionStarted() | StudyEnded() | StudyInterrupted():
                for number in list(open_since):
                    close(number, last)
            case TrialStarted() | TestsStarted():
                open_since.setdefault(event.number, (event.time, []))
                trials[event.number].epochs = getattr(event, "epochs", None) or trials[event.number].epochs
            case TrialEpoch() if event.number in open_since:
                open_since[event.number][1].append(event.time)
            case TrialPaused() | TrialRetried() | TrialMoved() | TrialEnded() | TrialDecoded():
                close(event.number, event.time)
        last = event.time
    for number in list(open_since):
        close(number, last)
    return dict(trials)


def sum_up(trials: Iterable[TrialTimes]) -> float:
    """The seconds for which all of them held workers."""
    return sum(end - start for trial in trials for start, end in trial.spans)


def sum_overlaps(trials: Iterable[TrialTimes], spans: Sequence[Span]) -> float:
    """The seconds of trials within these spans: of each trial that held workers meanwhile."""
    return sum(
        max(0.0, min(end, last) - max(start, first))
        for trial in trials
        for start, end in trial.spans
        for first, last in spans
    )
