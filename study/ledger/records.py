"""What is known of a trial, folded from a study's events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class TrialState(StrEnum):
    """Where a trial stands. Only complete and pruned trials carry usable values."""

    WAITING = "waiting"  # paused at a rung; goes on if it is promoted
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Nothing more will happen to the trial."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE)


@dataclass(frozen=True)
class TrialRecord:
    """One trial: what it tried and what came of it."""

    number: int
    state: TrialState = TrialState.RUNNING
    reason: str | None = None
    baseline: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    recipe_hash: str = ""
    epochs: tuple[dict[str, float], ...] = ()  # {"epoch": 1, "dev/wer": 61.2, ...}
    metrics: dict[str, float] = field(default_factory=dict)  # the last epoch's, and the final ones
    started: float | None = None  # Unix seconds
    ended: float | None = None
    retries: int = 0  # times that it went on after losing its workers
    source: str | None = None  # "study/number" of a trial that came by `fork`
    point: dict[str, Any] | None = None  # in the search space, as it was drawn; None where nobody noted it
    waited: int | None = None  # the epoch after which it was paused last


class DamagedEventError(Exception):
    """An event lacks what its kind has; `index` counts from 0."""

    def __init__(self, index: int) -> None:
        super().__init__(f"event {index} is damaged")
        self.index = index


def folded(events: Iterable[dict[str, Any]]) -> dict[int, TrialRecord]:
    """The trials after all `events`, by number."""
    trials: dict[int, TrialRecord] = {}
    for index, event in enumerate(events):
        kind = event["kind"]
        if kind in ("study_started", "study_interrupted"):
            # Whoever ran these is gone.
            trials = {number: _interrupted(trial) for number, trial in trials.items()}
        elif kind in _FOLD:
            try:
                number = event["number"]
                trials[number] = _FOLD[kind](trials.get(number, TrialRecord(number)), event)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise DamagedEventError(index) from None
    return dict(sorted(trials.items()))


def _interrupted(trial: TrialRecord) -> TrialRecord:
    return replace(trial, state=TrialState.INTERRUPTED) if trial.state is TrialState.RUNNING else trial


def _started(trial: TrialRecord, event: dict[str, Any]) -> TrialRecord:
    return replace(
        trial,
        state=TrialState.RUNNING,
        reason=None,
        baseline=event.get("baseline"),
        values=event.get("values") or {},
        point=event.get("point"),
        recipe_hash=event.get("recipe_hash", ""),
        started=trial.started or event["time"],
        ended=None,
    )


def _epoch(trial: TrialRecord, event: dict[str, Any]) -> TrialRecord:
    """An epoch that comes again, after a resume, takes the place of its first report and of all that followed it."""
    metrics = _numbers(event.get("metrics"))
    before = tuple(epoch for epoch in trial.epochs if epoch["epoch"] < event["epoch"])
    return replace(trial, epochs=(*before, {"epoch": event["epoch"], **metrics}), metrics=metrics)


def _ended(trial: TrialRecord, event: dict[str, Any]) -> TrialRecord:
    metrics = trial.metrics | _numbers(event.get("metrics"))
    return replace(
        trial,
        state=TrialState(event["state"]),
        reason=event.get("reason"),
        values=event.get("values") or trial.values,
        point=event.get("point", trial.point),
        metrics=metrics,
        ended=event["time"],
    )


def _paused(trial: TrialRecord, event: dict[str, Any]) -> TrialRecord:
    return replace(trial, state=TrialState.WAITING, reason=event.get("reason"), waited=event.get("epoch"))


def _retried(trial: TrialRecord, event: dict[str, Any]) -> TrialRecord:
    return replace(trial, state=TrialState.INTERRUPTED, reason=event.get("reason"), retries=event["count"])


def _imported(trial: TrialRecord, event: dict[str, Any]) -> TrialRecord:
    """A trial of another study, whole."""
    started = _started(trial, event | {"time": event["started"] or event["time"]})
    epochs = tuple({"epoch": each["epoch"], **_numbers(each["metrics"])} for each in event["epochs"])
    last = {name: value for name, value in epochs[-1].items() if name != "epoch"} if epochs else {}
    ended = _ended(replace(started, epochs=epochs, metrics=last), event | {"time": event["ended"] or event["time"]})
    return replace(ended, source=event["source"])


def _numbers(metrics: dict[str, float | None] | None) -> dict[str, float]:
    """Metrics as written; null stands for a number that was not finite."""
    return {name: float("nan") if value is None else value for name, value in (metrics or {}).items()}


_FOLD = {
    "trial_started": _started,
    "trial_epoch": _epoch,
    "trial_paused": _paused,
    "trial_retried": _retried,
    "trial_ended": _ended,
    "trial_imported": _imported,
}
