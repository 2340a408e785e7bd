"""What an MLflow run must hold: of a trial a function of its record; the study's own run is in `study_content`.

Here an epoch's metrics, WER among them, become points of MLflow's curves. Nothing here imports MLflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from model.recipe.decoding import drop_unused_keys
from study.ledger.events import EpochReport, TrialState
from study.ledger.records import TrialRecord

STATE, REASON, EPOCH = "trial.state", "trial.reason", "trial.epoch"
RETRIES, SOURCE, ROLE, DECODING = "trial.retries", "trial.source", "trial.role", "trial.decoding"
NOTE = "mlflow.note.content"  # of which lists of runs show the first line
TRIAL, PLACEMENT = "trial", "placement"  # params for charts: the number, and the placement as a word
CHOSEN = "chosen/"  # before a metric of the chosen weights whose curve over epochs has the plain name
STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}
MAX_TAG, _MAX_PARAM = 5000, 6000  # characters that MLflow takes; it cuts off the rest of a longer param
_MAX_TRIED = 100  # characters of one value in a note
_FILES = (
    *("recipe.yaml", "initialisation.json", "hypotheses/*.jsonl", "hypotheses/*.json"),
    *("error-*.txt", "broken-batch-*.json"),
)

Point = tuple[str, int, int]  # of a curve: its name, the epoch, and when it was reported, in Unix milliseconds


@dataclass(frozen=True)
class Corpus:
    """What a run was trained on, as MLflow lists its datasets; `digest` is the corpus's fingerprint."""

    name: str
    digest: str
    folder: str


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
    epochs: Sequence[EpochReport] = ()
    final_metrics: dict[str, float] = field(default_factory=dict)  # shown beside the last epoch, once it has ended
    rescored: dict[str, int] = field(default_factory=dict)  # when those of them were scored that changed after the end
    curve: dict[Point, float] = field(default_factory=dict)  # of the study itself
    corpus: Corpus | None = None
    tried: dict[str, str] = field(default_factory=dict)  # what its note begins with, as long as nobody wrote another
    views: dict[str, str] = field(default_factory=dict)  # tags of the experiment
    files: tuple[tuple[str, int], ...] = ()  # of the study's folder: name and checksum

    @cached_property
    def points(self) -> dict[Point, float]:
        """The value of each point, in the order of the epochs."""
        points = {
            (name, report.epoch, to_milliseconds(report.time)): value
            for report in self.epochs
            for name, value in report.metrics.items()
        } | self.curve
        if self.ended is None:
            return points
        last = self.epochs[-1].epoch if self.epochs else 0
        of_epochs = {name for name, *_ in points}
        return points | {
            (f"{CHOSEN}{name}" if name in of_epochs else name, last, self.rescored.get(name, self.ended)): value
            for name, value in self.final_metrics.items()
        }

    @property
    def fingerprint(self) -> str:
        """Equal where the contents are equal: the number and time of a report identify its metrics, and the end, or the
        time of a later decoding, the final ones."""
        epochs = [(report.epoch, to_milliseconds(report.time)) for report in self.epochs]
        content: list[Any] = [self.status, self.ended, self.params, self.tags, epochs, list(self.final_metrics)]
        content += [list(self.curve), self.views, self.files, [] if self.corpus is None else self.corpus.digest]
        content += [self.rescored] if self.rescored else []  # most runs keep the fingerprint of earlier versions
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def build_trial_run(record: TrialRecord, role: str | None = None, corpus: Corpus | None = None) -> RunContent:
    """The run of a trial; `role` as `list_roles` has it, by default what its own record shows."""
    tags = {
        STATE: record.state.value,
        REASON: clean_text(record.reason or "", MAX_TAG),
        ROLE: role or name_role(record),
    }
    tags |= {EPOCH: str(record.epoch)} if record.epochs else {}
    tags |= {RETRIES: str(record.retries)} if record.retries else {}
    tags |= {SOURCE: record.source} if record.source else {}
    if record.found_decoding is not None:  # a later search may find another one, and a param cannot be changed
        found = drop_unused_keys(record.found_decoding)
        tags[DECODING] = ", ".join(f"{name} {value}" for name, value in found.items())
    named = {"recipe_hash": record.recipe_hash, "baseline": record.baseline, "class": record.recipe_class}
    named |= {PLACEMENT: _describe_placement(record.values)}
    params = record.values | {TRIAL: record.number} | {name: value for name, value in named.items() if value}
    label = record.baseline or ("" if record.confirms is None else f"confirms {record.confirms:04d}")
    first = record.started or record.ended or (record.epochs[0].time if record.epochs else 0.0)
    return RunContent(
        number=record.number,
        name=f"{record.number:04d} {label}".rstrip(),
        status=STATUS[record.state],
        started=to_milliseconds(first),
        ended=None if record.ended is None else to_milliseconds(record.ended),
        params={name: clean_text(value, _MAX_PARAM) for name, value in params.items()},
        tags=tags,
        epochs=record.epochs,
        final_metrics=record.final_metrics,
        rescored={name: to_milliseconds(time) for name, time in record.rescored.items()},
        corpus=corpus,
        tried={name: clean_text(value, _MAX_TRIED) for name, value in record.values.items()},
    )


def name_role(record: TrialRecord) -> str:
    """What a trial is for, as far as its own record shows: baseline, confirmation of another one, or proposal."""
    if record.confirms is not None:
        return f"confirmation of {record.confirms:04d}"
    return "proposal" if record.baseline is None else "baseline"


def _describe_placement(values: Mapping[str, Any]) -> str:
    """The placement of the classifiers as a word, which charts do not take for a number; empty where none is named."""
    placement = values.get("auxiliary.placement")
    if placement is None or placement == "none":
        return placement or ""
    layers = str(placement).split(",")
    return f"layer{'s' if len(layers) > 1 else ''} {' and '.join(layer.strip() for layer in layers)}"


def list_files(study_folder: Path, content: RunContent) -> list[Path]:
    """The files of a trial that has ended, or of a study, as far as MLflow shows them."""
    if content.ended is None:
        return []
    if content.number is None:
        return [study_folder / name for name, _ in content.files]
    folder = study_folder / "trials" / f"{content.number:04d}"
    return [path for pattern in _FILES for path in sorted(folder.glob(pattern)) if path.is_file()]


def clean_text(value: Any, most: int) -> str:
    """PostgreSQL takes no NUL, and MLflow would report that as a database that does not answer."""
    return str(value).replace("\0", "")[:most]


def to_milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
