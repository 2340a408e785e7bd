"""The one fold from events to trials. Everything that asks what a trial did reads it: agenda, stopping rules, sampler,
table, live board, MLflow, export.

Laws, tested: folding a and then b is folding a + b; an epoch that is reported again, after a resume, replaces its first
report and everything that followed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    FinalistsChosen,
    NodeExcluded,
    PriorRead,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialDecodingSearched,
    TrialEnded,
    TrialEpoch,
    TrialImported,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.records import TrialRecord

RETRY, USE = "retry", "use"  # commands of a `ControlGiven`: reopen a trial, use a node that was excluded


class Trials(Mapping[int, TrialRecord]):
    """The trials of a study after all events so far, by number in ascending order. Not for several threads."""

    def __init__(self, events: Iterable[AnyEvent] = ()) -> None:
        self._records: dict[int, TrialRecord] = {}
        self._running: set[int] = set()
        self.study_state = TrialState.WAITING  # of the study itself
        self.began: float | None = None  # Unix seconds, of the first event
        self.changed: float | None = None  # Unix seconds, of the last event
        self.has_ended = False  # whether the study came to its end and nothing has happened since
        self.selection: FinalistsChosen | None = None  # the last one
        self.prior: PriorRead | None = None
        self.excluded: tuple[NodeExcluded, ...] = ()  # nodes that no trials are placed on
        self.best: tuple[int, str] | None = None  # number and recipe hash, as noted when a session ended
        for event in events:
            self.apply(event)

    def apply(self, event: AnyEvent) -> None:
        """Take the next event in."""
        self.began = event.time if self.began is None else self.began
        self.changed = event.time
        self.has_ended = isinstance(event, StudyEnded)
        match event:
            case SessionStarted():
                self._interrupt_running(event.time)
                self.study_state = TrialState.RUNNING
                self.excluded = tuple(one for one in self.excluded if (one.until or 0.0) > event.time)
            case StudyInterrupted():
                self._interrupt_running(event.time)
                self._end_study(event, TrialState.INTERRUPTED)
            case StudyEnded():
                self._end_study(event, event.state)
            case FinalistsChosen():
                self.selection = event
            case PriorRead():
                self.prior = event
            case NodeExcluded():
                self.excluded = (*(one for one in self.excluded if one.node != event.node), event)
            case ControlGiven(value=str(node)) if event.command == USE:
                self.excluded = tuple(one for one in self.excluded if one.node != node)
            case ControlGiven(number=int(number)) if event.command == RETRY and number in self._records:
                self._put(reopen(self._records[number], event))
            case (
                TrialStarted()
                | TrialEpoch()
                | TrialPaused()
                | TrialRetried()
                | TrialMoved()
                | TrialEnded()
                | TrialImported()
                | TrialDecoded()
                | TrialDecodingSearched()
            ):
                record = self._records.get(event.number, TrialRecord(event.number))
                self._put(_FOLD[type(event)](record, event))

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def running(self) -> list[int]:
        """The numbers of the trials that run."""
        return sorted(self._running)

    @property
    def next_number(self) -> int:
        """The number of the next new trial."""
        return next(reversed(self._records), -1) + 1

    def _put(self, record: TrialRecord) -> None:
        in_order = record.number in self._records or record.number >= self.next_number
        self._records[record.number] = record
        if not in_order:  # an event file that was put together by hand
            self._records = dict(sorted(self._records.items()))
        (self._running.add if record.state is TrialState.RUNNING else self._running.discard)(record.number)

    def _interrupt_running(self, time: float) -> None:
        """The driver that ran these is gone."""
        for number in self.running:
            self._put(replace(self._records[number], state=TrialState.INTERRUPTED, ended=time))

    def _end_study(self, event: StudyEnded | StudyInterrupted, state: TrialState) -> None:
        self.study_state = state
        if event.best is not None:
            self.best = (event.best, event.best_recipe_hash or "")


def _start(trial: TrialRecord, event: TrialStarted | TrialImported) -> TrialRecord:
    return replace(
        trial,
        state=TrialState.RUNNING,
        reason=None,
        baseline=event.baseline,
        values=event.values,
        point=event.point,
        recipe_class=event.recipe_class or _guess_class(event.values),
        confirms=event.confirms if isinstance(event, TrialStarted) else None,
        recipe_hash=event.recipe_hash,
        decoding_hash=event.decoding_hash,
        training_of=event.training_of if isinstance(event, TrialStarted) else None,
        planned_epochs=event.epochs if isinstance(event, TrialStarted) else None,
        started=trial.started or event.time,
        ended=None,
    )


def _guess_class(values: Mapping[str, Any]) -> str:
    """The class of a trial of before version 0.3, by the values that it tried; empty where these do not say it."""
    placement = values.get("auxiliary.placement")
    return "" if placement is None else "ed" if placement == "none" else "decred"


def _add_epoch(trial: TrialRecord, event: TrialEpoch) -> TrialRecord:
    before = trial.epochs
    if trial.epoch >= event.epoch:
        before = tuple(report for report in before if report.epoch < event.epoch)
    got_further = event.epoch > trial.furthest_epoch
    return replace(
        trial,
        epochs=(*before, event),
        metrics=dict(event.metrics),
        retries_here=0 if got_further else trial.retries_here,
        furthest_epoch=max(event.epoch, trial.furthest_epoch),
    )


def _pause(trial: TrialRecord, event: TrialPaused) -> TrialRecord:
    return replace(trial, state=TrialState.WAITING, reason=event.reason, paused_at=event.epoch)


def _retry(trial: TrialRecord, event: TrialRetried) -> TrialRecord:
    trial = replace(
        trial,
        state=TrialState.INTERRUPTED,
        reason=event.reason,
        lost_seconds=trial.lost_seconds + (event.lost_seconds or 0.0),
    )
    if event.elsewhere:
        return trial
    # An event file that was put together by hand may lack some.
    return replace(trial, retries=max(trial.retries + 1, event.count), retries_here=trial.retries_here + 1)


def _move(trial: TrialRecord, event: TrialMoved) -> TrialRecord:
    return replace(trial, state=TrialState.INTERRUPTED, reason=event.reason)


def can_reopen(trial: TrialRecord) -> bool:
    """Whether a trial has failed, or is infeasible, and has a recipe: points that make none are never tried."""
    return trial.state in (TrialState.FAILED, TrialState.INFEASIBLE) and trial.started is not None


def reopen(trial: TrialRecord, event: ControlGiven) -> TrialRecord:
    """The trial as one that was interrupted after its last epoch; as it is where it cannot be reopened."""
    if not can_reopen(trial):
        return trial
    return replace(
        trial,
        state=TrialState.INTERRUPTED,
        reason=f"reopened by {event.who}",
        metrics=dict(trial.epochs[-1].metrics) if trial.epochs else {},
        final_metrics={},
        retries_here=0,
        ended=event.time,
    )


def _end(trial: TrialRecord, event: TrialEnded | TrialImported) -> TrialRecord:
    return replace(
        trial,
        state=event.state,
        reason=event.reason,
        values=event.values or trial.values,
        point=trial.point if event.point is None else event.point,
        recipe_class=(getattr(event, "recipe_class", None) or trial.recipe_class),
        metrics=trial.metrics | event.metrics,
        final_metrics=trial.final_metrics | event.metrics,
        ended=event.time,
    )


def _decode(trial: TrialRecord, event: TrialDecoded) -> TrialRecord:
    """What its decoding scored is added to its final figures; figures by another decoding are not."""
    if event.decoding_hash != trial.decoding_hash:
        return trial
    metrics, final = trial.metrics | event.metrics, trial.final_metrics | event.metrics
    return replace(trial, metrics=metrics, final_metrics=final, was_decoded=True)


def _search(trial: TrialRecord, event: TrialDecodingSearched) -> TrialRecord:
    return replace(trial, found_decoding=event.decoding, tried_decodings=event.tried, decoding_stages=event.stages)


def _stop(trial: TrialRecord, event: TrialEnded) -> TrialRecord:
    return replace(_end(trial, event), lost_seconds=trial.lost_seconds + (event.lost_seconds or 0.0))


def _import(trial: TrialRecord, event: TrialImported) -> TrialRecord:
    started, ended = event.started or event.time, event.ended or event.time
    # The epochs of format 1 have no time of their own.
    epochs = tuple(report if report.time else report.model_copy(update={"time": ended}) for report in event.epochs)
    trial = replace(_start(trial, event), started=started, epochs=epochs, source=event.source)
    last = dict(epochs[-1].metrics) if epochs else {}
    trial = replace(_end(replace(trial, metrics=last), event), ended=ended)
    # Until version 0.3 it has the last epoch's metrics among its own.
    final = {name: value for name, value in event.metrics.items() if event.is_final or name not in last}
    return replace(trial, final_metrics=final)


_FOLD: dict[type, Callable[[TrialRecord, Any], TrialRecord]] = {
    TrialStarted: _start,
    TrialEpoch: _add_epoch,
    TrialPaused: _pause,
    TrialRetried: _retry,
    TrialMoved: _move,
    TrialEnded: _stop,
    TrialImported: _import,
    TrialDecoded: _decode,
    TrialDecodingSearched: _search,
}
