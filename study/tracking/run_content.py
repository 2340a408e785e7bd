"""What an MLflow run must hold: a function of a trial's record, or of all trials for the study's own run.

Here an epoch's metrics, WER among them, become points of MLflow's curves. Nothing here imports MLflow.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from study.ledger.events import EpochReport, TrialState
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict

STATE, REASON, EPOCH = "trial.state", "trial.reason", "trial.epoch"
RETRIES, SOURCE = "trial.retries", "trial.source"
CHOSEN = "chosen/"  # before a metric of the chosen weights whose curve over epochs has the plain name
_STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}
_MAX_TAG, _MAX_PARAM = 5000, 6000  # characters that MLflow takes; it cuts off the rest of a longer param
_FILES = ("recipe.yaml", "hypotheses/*.jsonl", "hypotheses/*.json", "error-*.txt", "broken-batch-*.json")

Point = tuple[str, int, int]  # of a curve: its name, the epoch, and when it was reported, in Unix milliseconds


@dataclass(frozen=True)
class RunContent:
    """What one run must hold. Times are in Unix milliseconds."""

    number: int | None  # of the trial; None is the study's own run
    name: str
    status: str  # MLflow's word
    started: int
    ended: int | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    epochs: tuple[EpochReport, ...] = ()
    final_metrics: dict[str, float] = field(default_factory=dict)  # shown beside the last epoch, once it has ended

    @cached_property
    def points(self) -> dict[Point, float]:
        """The value of each point, in the order of the epochs."""
        points = {
            (name, report.epoch, _to_milliseconds(report.time)): value
            for report in self.epochs
            for name, value in report.metrics.items()
        }
        if self.ended is None:
            return points
        last = self.epochs[-1].epoch if self.epochs else 0
        of_epochs = {name for name, *_ in points}
        return points | {
            (f"{CHOSEN}{name}" if name in of_epochs else name, last, self.ended): value
            for name, value in self.final_metrics.items()
        }

    @property
    def fingerprint(self) -> str:
        """Equal where the contents are equal: the number and time of a report identify its metrics."""
        epochs = [(report.epoch, _to_milliseconds(report.time)) for report in self.epochs]
        content = [self.status, self.ended, self.params, self.tags, epochs, list(self.final_metrics)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def build_trial_run(record: TrialRecord) -> RunContent:
    """The run of a trial."""
    tags = {STATE: record.state.value, REASON: _clean_text(record.reason or "", _MAX_TAG)}
    tags |= {EPOCH: str(record.epoch)} if record.epochs else {}
    tags |= {RETRIES: str(record.retries)} if record.retries else {}
    tags |= {SOURCE: record.source} if record.source else {}
    named = {"recipe_hash": record.recipe_hash, "baseline": record.baseline, "class": record.recipe_class}
    params = record.values | {name: value for name, value in named.items() if value}
    label = record.baseline or ("" if record.confirms is None else f"confirms {record.confirms:04d}")
    first = record.started or record.ended or (record.epochs[0].time if record.epochs else 0.0)
    return RunContent(
        number=record.number,
        name=f"{record.number:04d} {label}".rstrip(),
        status=_STATUS[record.state],
        started=_to_milliseconds(first),
        ended=None if record.ended is None else _to_milliseconds(record.ended),
        params={name: _clean_text(value, _MAX_PARAM) for name, value in params.items()},
        tags=tags,
        epochs=record.epochs,
        final_metrics=record.final_metrics,
    )


def build_study_run(trials: Trials, name: str) -> RunContent:
    """The study's own run, the parent of all others."""
    state = trials.study_state
    tags = {"study.status": state.value}
    if trials.best is not None:
        number, recipe_hash = trials.best
        tags |= {"study.best_trial": str(number), "study.best_recipe_hash": recipe_hash}
    verdict = make_verdict(trials)
    if verdict is not None:
        tags["mlflow.note.content"] = _clean_text("\n\n".join(describe_verdict(verdict)), _MAX_TAG)
    ended = trials.changed if state not in (TrialState.WAITING, TrialState.RUNNING) else None
    return RunContent(
        number=None,
        name=name,
        status=_STATUS[state],
        started=_to_milliseconds(trials.began or 0.0),
        ended=None if ended is None else _to_milliseconds(ended),
        tags=tags,
    )


def list_files(study_folder: Path, content: RunContent) -> list[Path]:
    """The files of a trial that has ended, as far as MLflow shows them."""
    if content.number is None or content.ended is None:
        return []
    folder = study_folder / "trials" / f"{content.number:04d}"
    return [path for pattern in _FILES for path in sorted(folder.glob(pattern)) if path.is_file()]


def _clean_text(value: Any, most: int) -> str:
    """PostgreSQL takes no NUL, and MLflow would report that as a database that does not answer."""
    return str(value).replace("\0", "")[:most]


def _to_milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
