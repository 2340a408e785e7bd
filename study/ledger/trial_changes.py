"""What each event does to the record of its trial; `trials` folds all events of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from study.ledger.events import (
    ControlGiven,
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
from study.ledger.records import TrialRecord, change, pack_tried
from study.ledger.steering import NOTE, RETRY


def _start(trial: TrialRecord, event: TrialStarted | TrialImported) -> TrialRecord:
    return change(
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
        enqueued_by=trial.enqueued_by or (event.enqueued_by if isinstance(event, TrialStarted) else None),
        started=trial.started or event.time,
        ended=None,
    )


def _guess_class(values: Mapping[str, Any]) -> str:
    """The class of a trial of before version 0.3, by the values that it tried; empty where these do not say it."""
    placement = values.get("auxiliary.placement")
    return "" if placement is None else "ed" if placement == "none" else "decred"


def add_reports(trial: TrialRecord, reports: Sequence[TrialEpoch]) -> TrialRecord:
    """The trial after these reports, at least one, in their order."""
    epochs, furthest = list(trial.epochs), trial.furthest_epoch
    for report in reports:
        while epochs and epochs[-1].epoch >= report.epoch:
            epochs.pop()
        epochs.append(report)
    got_further = max(report.epoch for report in reports) > furthest
    return change(
        trial,
        epochs=tuple(epochs),
        metrics=dict(reports[-1].metrics),
        retries_here=0 if got_further else trial.retries_here,
        furthest_epoch=max(furthest, *(report.epoch for report in reports)),
    )


def _pause(trial: TrialRecord, event: TrialPaused) -> TrialRecord:
    return change(trial, state=TrialState.WAITING, reason=event.reason, paused_at=event.epoch)


def _retry(trial: TrialRecord, event: TrialRetried) -> TrialRecord:
    trial = change(
        trial,
        state=TrialState.INTERRUPTED,
        reason=event.reason,
        lost_seconds=trial.lost_seconds + (event.lost_seconds or 0.0),
    )
    if event.elsewhere or event.in_more_parts:
        return trial
    # An event file that was put together by hand may lack some.
    return change(trial, retries=max(trial.retries + 1, event.count), retries_here=trial.retries_here + 1)


def _move(trial: TrialRecord, event: TrialMoved) -> TrialRecord:
    return change(trial, state=TrialState.INTERRUPTED, reason=event.reason)


def steer(trial: TrialRecord, event: ControlGiven) -> TrialRecord:
    """The trial after an order of a person's about it."""
    if event.command == NOTE and event.value:
        return change(trial, notes=(*trial.notes, f"{event.value} ({event.who})"))
    return reopen(trial, event) if event.command == RETRY else trial


def can_reopen(trial: TrialRecord) -> bool:
    """Whether a trial has failed, or is infeasible, and has a recipe: points that make none are never tried."""
    return trial.state in (TrialState.FAILED, TrialState.INFEASIBLE) and trial.started is not None


def reopen(trial: TrialRecord, event: ControlGiven) -> TrialRecord:
    """The trial as one that was interrupted after its last epoch; as it is where it cannot be reopened."""
    if not can_reopen(trial):
        return trial
    return change(
        trial,
        state=TrialState.INTERRUPTED,
        reason=f"reopened by {event.who}",
        metrics=dict(trial.epochs[-1].metrics) if trial.epochs else {},
        final_metrics={},
        retries_here=0,
        ended=event.time,
    )


def _end(trial: TrialRecord, event: TrialEnded | TrialImported) -> TrialRecord:
    return change(
        trial,
        state=event.state,
        reason=event.reason,
        values=event.values or trial.values,
        point=trial.point if event.point is None else event.point,
        recipe_class=(getattr(event, "recipe_class", None) or trial.recipe_class),
        metrics=trial.metrics | event.metrics,
        final_metrics=trial.final_metrics | event.metrics,
        rescored={},
        ended=event.time,
    )


def _decode(trial: TrialRecord, event: TrialDecoded) -> TrialRecord:
    """What its decoding scored is added to its final figures; figures by another decoding are not."""
    if event.decoding_hash != trial.decoding_hash:
        return trial
    known = trial.final_metrics
    changed = {name for name, value in event.metrics.items() if not _is_same(known.get(name, value), value)}
    return change(
        trial,
        metrics=trial.metrics | event.metrics,
        final_metrics=known | event.metrics,
        rescored=trial.rescored | dict.fromkeys(sorted(changed), event.time),
        was_decoded=True,
    )


def _is_same(figure: float, other: float) -> bool:
    """Whether two figures are one to whoever reads them from a file, where all that are not finite are NaN."""
    return figure == other or not (math.isfinite(figure) or math.isfinite(other))


def _search(trial: TrialRecord, event: TrialDecodingSearched) -> TrialRecord:
    tried = pack_tried(event.tried)
    return change(trial, found_decoding=event.decoding, tried=tried, decoding_stages=event.stages)


def _stop(trial: TrialRecord, event: TrialEnded) -> TrialRecord:
    return change(_end(trial, event), lost_seconds=trial.lost_seconds + (event.lost_seconds or 0.0))


def _import(trial: TrialRecord, event: TrialImported) -> TrialRecord:
    started, ended = event.started or event.time, event.ended or event.time
    # The epochs of format 1 have no time of their own.
    epochs = tuple(report if report.time else replace(report, time=ended) for report in event.epochs)
    trial = change(_start(trial, event), started=started, epochs=epochs, source=event.source)
    last = dict(epochs[-1].metrics) if epochs else {}
    trial = change(_end(change(trial, metrics=last), event), ended=ended)
    # Until version 0.3 it has the last epoch's metrics among its own.
    final = {name: value for name, value in event.metrics.items() if event.is_final or name not in last}
    return change(trial, final_metrics=final)


FOLD: dict[type, Callable[[TrialRecord, Any], TrialRecord]] = {
    TrialStarted: _start,
    TrialEpoch: lambda trial, event: add_reports(trial, [event]),
    TrialPaused: _pause,
    TrialRetried: _retry,
    TrialMoved: _move,
    TrialEnded: _stop,
    TrialImported: _import,
    TrialDecoded: _decode,
    TrialDecodingSearched: _search,
}
