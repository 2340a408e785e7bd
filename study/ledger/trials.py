"""The one fold from events to trials. Everything that asks what a trial did reads it: agenda, stopping rules, sampler,
table, live board, MLflow, export.

Laws, tested: folding a and then b is folding a + b; an epoch that is reported again, after a resume, replaces its first
report and everything that followed it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from study.ledger.events import (
    AnyEvent,
    BudgetReached,
    ControlGiven,
    FinalistsChosen,
    NodeExcluded,
    PriorRead,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEpoch,
    TrialState,
)
from study.ledger.packed_epochs import pack_reports
from study.ledger.records import TrialRecord, change
from study.ledger.spent import Spent
from study.ledger.steering import USE, Steering
from study.ledger.trial_changes import FOLD, add_reports, steer


class Trials(Mapping[int, TrialRecord]):
    """The trials of a study after all events so far, by number in ascending order. Not for several threads."""

    def __init__(self, events: Iterable[AnyEvent] = ()) -> None:
        self._settled: dict[int, TrialRecord] = {}  # without the reports that wait
        self._reports: dict[int, list[TrialEpoch]] = {}  # in their order; a long fold adds those of a trial at once
        self._running: set[int] = set()
        self.study_state = TrialState.WAITING  # of the study itself
        self.session: SessionStarted | None = None  # the last one
        self.stopped: str | None = None  # why the last session stopped, where a reason was recorded
        self.applied = 0  # how many events
        self.began: float | None = None  # Unix seconds, of the first event
        self.changed: float | None = None  # Unix seconds, of the last event
        self.has_ended = False  # whether the study came to its end and nothing has happened since
        self.selection: FinalistsChosen | None = None  # the last one
        self.prior: PriorRead | None = None
        self.spent = Spent()
        self.budget_reached: dict[str, BudgetReached] = {}  # by part of the study, the last one of each
        self.excluded: tuple[NodeExcluded, ...] = ()  # nodes that no trials are placed on
        self.steering = Steering()  # what people have ordered
        self.best: tuple[int, str] | None = None  # number and recipe hash, as noted when a session ended
        for event in events:
            self.apply(event)

    def apply(self, event: AnyEvent) -> None:
        """Take the next event in."""
        self.began = event.time if self.began is None else self.began
        self.changed = event.time
        self.spent.apply(event)
        self.has_ended = isinstance(event, StudyEnded)
        self.steering = self.steering.after(event)
        if (fold := FOLD.get(type(event))) is not None:  # nearly all events are of one trial
            self._apply_to_trial(fold, event)
        else:
            self._apply_to_study(event)
        self.applied += 1

    def _apply_to_trial(self, fold: Callable[[TrialRecord, Any], TrialRecord], event: Any) -> None:
        if isinstance(event, TrialEpoch):
            self._reports.setdefault(event.number, []).append(event)
        else:
            self._settle(event.number)
            self._put(fold(self._settled.get(event.number) or TrialRecord(event.number), event))

    def _apply_to_study(self, event: AnyEvent) -> None:
        match event:
            case SessionStarted():
                self._interrupt_running(event.time)
                self.study_state, self.session, self.stopped = TrialState.RUNNING, event, None
                self.excluded = tuple(one for one in self.excluded if (one.until or 0.0) > event.time)
            case StudyInterrupted():
                self._interrupt_running(event.time)
                self._end_study(event, TrialState.INTERRUPTED)
                self.stopped = event.reason
            case StudyEnded():
                self._end_study(event, event.state)
            case FinalistsChosen():
                self.selection = event
            case BudgetReached():
                self.budget_reached[event.part] = event
            case PriorRead():
                self.prior = event
            case NodeExcluded():
                self.excluded = (*(one for one in self.excluded if one.node != event.node), event)
            case ControlGiven(value=str(node)) if event.command == USE:
                self.excluded = tuple(one for one in self.excluded if one.node != node)
            case ControlGiven(number=int(number)) if number in self._records:
                self._put(steer(self._records[number], event))

    def pack_reports(self, number: int) -> None:
        """Keep the reports of this trial in less memory; more of them may still come."""
        record = self._records[number]
        self._settled[number] = change(record, epochs=pack_reports(number, record.epochs))

    def restore(self, records: Iterable[TrialRecord]) -> None:
        """Take in the records of an earlier fold of the same events, in the order of their numbers."""
        self._settled = {record.number: record for record in records}
        self._running = {number for number, record in self._settled.items() if record.state is TrialState.RUNNING}

    def copy(self) -> Trials:
        """The same trials, to which no later event is applied; what was spent is not copied."""
        same = copy.copy(self)
        same._settled, same._reports, same._running = self._records.copy(), {}, self._running.copy()
        return same

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def running(self) -> list[int]:
        """The numbers of the trials that run."""
        self._settle(*self._reports)
        return sorted(self._running)

    @property
    def next_number(self) -> int:
        """The number of the next new trial."""
        return next(reversed(self._records), -1) + 1

    @property
    def _records(self) -> dict[int, TrialRecord]:
        self._settle(*self._reports)
        return self._settled

    def _settle(self, *numbers: int) -> None:
        """Add the reports of these trials that wait."""
        for number in numbers:
            if reports := self._reports.pop(number, None):
                self._put(add_reports(self._settled.get(number) or TrialRecord(number), reports))

    def _put(self, record: TrialRecord) -> None:
        record = self.steering.settle(record, self.changed)
        in_order = record.number in self._settled or record.number > next(reversed(self._settled), -1)
        self._settled[record.number] = record
        if not in_order:  # an event file that was put together by hand
            self._settled = dict(sorted(self._settled.items()))
        (self._running.add if record.state is TrialState.RUNNING else self._running.discard)(record.number)

    def _interrupt_running(self, time: float) -> None:
        """The driver that ran these is gone."""
        for number in self.running:
            self._put(replace(self._records[number], state=TrialState.INTERRUPTED, ended=time))

    def _end_study(self, event: StudyEnded | StudyInterrupted, state: TrialState) -> None:
        self.study_state = state
        if event.best is not None:
            self.best = (event.best, event.best_recipe_hash or "")
