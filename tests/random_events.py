"""Events as a driver writes them, chosen by numbers: for laws that hold whatever a study does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    EpochReport,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialImported,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.trials import Trials

FINAL = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
EPOCHS = (EpochReport(epoch=1, metrics={"dev/wer": 60.0}), EpochReport(epoch=2, metrics={"dev/wer": 50.0}))


@dataclass
class Driver:
    """Makes the events that a driver writes: what a trial does next depends on what it did."""

    clock: Iterator[float] = field(default_factory=lambda: itertools.count(1000.0, 0.5))
    trials: Trials = field(default_factory=Trials)

    def next_event(self, number: int, choice: int) -> AnyEvent:
        """One of the events that are possible now, of this trial or of the study; `choice` is 0 to 399."""
        possible = self._trial_events(number)
        if self.trials.study_state is not TrialState.RUNNING:
            possible = [lambda time: SessionStarted(time=time)]
        elif choice % 8 == 0:
            possible = self._study_events()
        event = possible[choice // 8 % len(possible)](next(self.clock))
        self.trials.apply(event)
        return event

    def _study_events(self) -> list[Callable[[float], AnyEvent]]:
        return [
            lambda time: StudyInterrupted(time=time, best=1, best_recipe_hash="abc"),
            lambda time: SessionStarted(time=time),
            lambda time: StudyEnded(time=time, state=TrialState.COMPLETE, best=0, best_recipe_hash="abc"),
        ]

    def _trial_events(self, number: int) -> list[Callable[[float], AnyEvent]]:
        record, values = self.trials.get(number), {"ctc_weight": number / 10}
        known: dict[str, Any] = {"number": number, "values": values}
        start = lambda time: TrialStarted(time=time, baseline="ed" if number == 0 else None, **known)  # noqa: E731
        if record is None:
            return [
                *[start] * 8,
                lambda time: TrialEnded(time=time, state=TrialState.INFEASIBLE, reason="no", **known),
                lambda time: TrialImported(
                    time=time, source="other/1", state=TrialState.PRUNED, epochs=EPOCHS, **known
                ),
            ]
        if record.state is TrialState.FAILED:
            return [
                lambda time: SessionStarted(time=time),
                lambda time: ControlGiven(time=time, who="ada@laptop", command="retry", number=number),
            ]
        if record.state.final:
            return [lambda time: SessionStarted(time=time)]
        if record.state is not TrialState.RUNNING:
            return [start]
        epochs = [self._epoch(number, epoch) for epoch in range(1, record.epoch + 2)]  # new or reported before
        return [
            *epochs[-1:] * 4,
            *epochs * 2,
            lambda time: TrialPaused(time=time, number=number, epoch=record.epoch, reason="waits"),
            lambda time: TrialRetried(time=time, number=number, reason="lost", count=record.retries + 1),
            lambda time: TrialMoved(time=time, number=number, reason="Ray drains its node"),
            lambda time: TrialEnded(time=time, number=number, state=TrialState.INTERRUPTED, reason="stopped"),
            *(self._end(number, state) for state in FINAL),
        ]

    @staticmethod
    def _epoch(number: int, epoch: int) -> Callable[[float], AnyEvent]:
        metrics = {"dev/wer": 90.0 - epoch, "train/loss": float("nan")}
        return lambda time: TrialEpoch(time=time, number=number, epoch=epoch, metrics=metrics)

    @staticmethod
    def _end(number: int, state: TrialState) -> Callable[[float], AnyEvent]:
        metrics = {"test/a/wer": 30.0} if state is TrialState.COMPLETE else {}
        return lambda time: TrialEnded(time=time, number=number, state=state, metrics=metrics)
