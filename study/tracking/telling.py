"""What MLflow is to hear of each event in the ledger: of the events alone, so that telling twice tells the same.

Nothing here knows MLflow; `mlflow_adapter` applies the changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from study.ledger.records import TrialState

logger = logging.getLogger(__name__)

STATE, REASON, EPOCH = "trial.state", "trial.reason", "trial.epoch"
RETRIES, SOURCE = "trial.retries", "trial.source"
_MOST_REASON = 5000  # characters that MLflow takes in a tag
_MOST_POINTS = 800  # of the thousand things that MLflow takes in one request


@dataclass(frozen=True)
class Point:
    """One value of one curve."""

    name: str
    value: float
    step: int
    time: float  # Unix seconds, the event's
    final: bool = False  # told once a trial, beside the last epoch


@dataclass
class Change:
    """What one run hears at once."""

    number: int | None  # of the trial; None is the study's own run
    started: float  # when it began, should its run have to be made
    name: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    state: TrialState | None = None  # the last one; None where it stays
    ended: float | None = None
    artifacts: bool = False  # the files in the trial's folder are whole now


class Telling:
    """Reads the events in their order, and remembers of them what later ones need."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._epochs: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._changes: list[Change] = []
        self._latest: dict[int | None, Change] = {}

    def changes(self, events: Iterable[dict[str, Any]]) -> list[Change]:
        """What the runs are to hear of `events`: one change a run, or some more where a change would be too large."""
        self._changes, self._latest = [], {}
        for event in events:
            tell = _TELL.get(event.get("kind", ""))
            try:
                if tell is not None:
                    tell(self, event)
            except (KeyError, TypeError, ValueError) as error:
                logger.warning("tracking: an event was left out (%s: %s)", type(error).__name__, error)
        return self._changes

    def _study_started(self, event: dict[str, Any]) -> None:
        self._whoever_ran_is_gone(event)
        self._study(event, TrialState.RUNNING)

    def _study_interrupted(self, event: dict[str, Any]) -> None:
        self._whoever_ran_is_gone(event)
        self._stopped(event, TrialState.INTERRUPTED)

    def _study_ended(self, event: dict[str, Any]) -> None:
        self._stopped(event, TrialState(event["state"]))

    def _stopped(self, event: dict[str, Any], state: TrialState) -> None:
        """For good or for a while; the best trial is the best so far."""
        change = self._study(event, state)
        change.ended = event["time"]
        if event.get("best") is not None:
            change.tags["study.best_trial"] = str(event["best"])
            change.tags["study.best_recipe_hash"] = str(event["best_recipe_hash"])

    def _trial_started(self, event: dict[str, Any]) -> None:
        self._begin(event, event["time"])
        self._now(event, TrialState.RUNNING)

    def _trial_epoch(self, event: dict[str, Any]) -> None:
        self._epoch(event["number"], event["epoch"], event["metrics"], event["time"])

    def _trial_paused(self, event: dict[str, Any]) -> None:
        self._now(event, TrialState.WAITING)

    def _trial_retried(self, event: dict[str, Any]) -> None:
        self._now(event, TrialState.INTERRUPTED).tags[RETRIES] = str(event["count"])

    def _trial_ended(self, event: dict[str, Any]) -> None:
        if event.get("values"):  # an infeasible point has an end and no start
            self._begin(event, event["time"])
        change = self._now(event, TrialState(event["state"]))
        change.ended, change.artifacts = event["time"], True
        step = self._epochs.get(event["number"], 0)
        change.points += _points(event.get("metrics"), step, event["time"], final=True)

    def _trial_imported(self, event: dict[str, Any]) -> None:
        """The epochs' own times are not known; all stand at the trial's end."""
        ended = event["ended"] or event["time"]
        self._begin(event, event["started"] or event["time"])
        for epoch in event["epochs"]:
            self._epoch(event["number"], epoch["epoch"], epoch["metrics"], ended)
        # A record's metrics hold the last epoch's too, which are told already.
        told = event["epochs"][-1]["metrics"] if event["epochs"] else {}
        final = {name: value for name, value in event["metrics"].items() if name not in told}
        self._trial_ended(event | {"time": ended, "metrics": final, "values": None})
        self._change(event["number"], ended).tags[SOURCE] = str(event["source"])

    def _begin(self, event: dict[str, Any], time: float) -> None:
        number, baseline = event["number"], event.get("baseline")
        self._started.setdefault(number, time)
        self._names[number] = f"{number:04d} {baseline}" if baseline else f"{number:04d}"
        named = {"recipe_hash": event.get("recipe_hash"), "baseline": baseline}
        params = {**event["values"], **{name: value for name, value in named.items() if value}}
        self._change(number, time).params |= {name: _text(value) for name, value in params.items()}

    def _epoch(self, number: int, epoch: int, metrics: dict[str, float | None], time: float) -> None:
        """An epoch that comes again, after a resume, is not told twice."""
        if epoch <= self._epochs.get(number, 0):
            return
        self._epochs[number] = epoch
        change = self._change(number, time)
        change.points += _points(metrics, epoch, time)
        change.tags[EPOCH] = str(epoch)

    def _now(self, event: dict[str, Any], state: TrialState) -> Change:
        number = event["number"]
        change = self._change(number, event["time"])
        change.state = state
        change.tags[STATE] = state.value
        if state is not TrialState.RUNNING:
            change.tags[REASON] = _text(event.get("reason") or "")[:_MOST_REASON]
        (self._running.add if state is TrialState.RUNNING else self._running.discard)(number)
        return change

    def _whoever_ran_is_gone(self, event: dict[str, Any]) -> None:
        for number in sorted(self._running):
            change = self._now({"number": number, "time": event["time"]}, TrialState.INTERRUPTED)
            change.ended = event["time"]

    def _study(self, event: dict[str, Any], state: TrialState) -> Change:
        change = self._change(None, event["time"])
        change.state = state
        change.tags["study.status"] = state.value
        return change

    def _change(self, number: int | None, time: float) -> Change:
        """The change that goes on growing for a run."""
        change = self._latest.get(number)
        if change is None or len(change.points) >= _MOST_POINTS:
            started = time if number is None else self._started.setdefault(number, time)
            name = "" if number is None else self._names.get(number, f"{number:04d}")
            change = self._latest[number] = Change(number, started, name)
            self._changes.append(change)
        return change


def _text(value: Any) -> str:
    """PostgreSQL takes no NUL, and MLflow answers as if it were out of order."""
    return str(value).replace("\0", "")


def _points(metrics: dict[str, float | None] | None, step: int, time: float, final: bool = False) -> list[Point]:
    """null stands for a number that was not finite."""
    return [
        Point(name, float("nan") if value is None else float(value), step, time, final)
        for name, value in (metrics or {}).items()
    ]


_TELL: dict[str, Callable[[Telling, dict[str, Any]], None]] = {
    "study_started": Telling._study_started,
    "study_interrupted": Telling._study_interrupted,
    "study_ended": Telling._study_ended,
    "trial_started": Telling._trial_started,
    "trial_epoch": Telling._trial_epoch,
    "trial_paused": Telling._trial_paused,
    "trial_retried": Telling._trial_retried,
    "trial_ended": Telling._trial_ended,
    "trial_imported": Telling._trial_imported,
}
