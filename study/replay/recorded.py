"""A recorded study: its study file, base recipe and trials, from a study's folder or from a packed record.

A packed record is a file of JSON lines, compressed where its name ends in .gz. A line of kind `study` holds study file
and base recipe of the trainings that follow it, one a line: `values` and `point`, `epochs` (all metrics of each report,
`seconds` since the start), `final` (figures of the chosen weights), `stages` of the search for a decoding, and `edits`
([S, D, I, N] of each utterance and set, in order of ids), which replay does not read.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import validate
from study.config.study_file import StudyFile
from study.ledger.events import EpochReport, Seconds, SessionStarted, TrialState
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord

DIGITS = 6  # significant ones of packed figures
_START = 1.0  # Unix seconds; a record without a start has no cost


@dataclass(frozen=True)
class RecordedStudy:
    """What replay reads of a study."""

    study: StudyFile
    base: Recipe
    records: tuple[TrialRecord, ...]
    concurrency: int  # trials at the same time


def record_ledger(ledger: Ledger) -> RecordedStudy:
    """The study in an open ledger."""
    sessions = [event.concurrency for event in ledger.log.read() if isinstance(event, SessionStarted)]
    records = tuple(ledger.trials.values())
    return RecordedStudy(ledger.study, ledger.base_recipe, records, max([1, *sessions]))


def is_packed(path: Path) -> bool:
    """Whether the path is that of a packed record."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def read_packed(path: Path) -> list[RecordedStudy]:
    """The studies in a packed record; a UserError where the file is none."""
    studies: list[RecordedStudy] = []
    number = 0
    try:
        for line in _read_lines(path):
            number += 1
            content = json.loads(line)
            if content["kind"] == "study":
                study = validate(StudyFile, content["study"], str(path))
                base = validate(Recipe, content["base_recipe"], str(path))
                studies.append(RecordedStudy(study, base, (), int(content["concurrency"])))
            else:
                last = studies[-1]
                records = (*last.records, _unpack(content))
                studies[-1] = RecordedStudy(last.study, last.base, records, last.concurrency)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a study, or a packed record") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no packed record (line {number}: {error!r}); "
            "give a study, or a file that tests/benchmarks/pack_record.py wrote"
        ) from None
    return studies


def write_packed(path: Path, ledgers: Iterable[Ledger]) -> int:
    """Pack the complete trials of studies into one file; returns their number."""
    count = 0
    # Neither name nor time in the header: the same studies give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for ledger in ledgers:
            recorded = record_ledger(ledger)
            _write_line(file, _pack_study(recorded))
            for record in recorded.records:
                if record.state is TrialState.COMPLETE:
                    edits = read_edits(ledger.trial_folder(record.number) / "hypotheses")
                    _write_line(file, pack(record) | {"edits": edits})
                    count += 1
    return count


def pack(record: TrialRecord) -> dict[str, Any]:
    """A trial as a line of a packed record, without its edits."""
    started = record.started or 0.0
    epochs = [
        {"epoch": report.epoch, "step": report.step, "seconds": _round(report.time - started)} | _pack_metrics(report)
        for report in record.epochs
    ]
    stages = [{"stage": stage["stage"], "metrics": _round_all(stage["metrics"])} for stage in record.decoding_stages]
    return {
        "kind": "training",
        "number": record.number,
        "baseline": record.baseline,
        "values": record.values,
        "point": record.point,
        "recipe_hash": record.recipe_hash,
        "epochs": epochs,
        "final": _round_all(record.final_metrics),
        "stages": stages,
        "seconds": _round((record.ended or started) - started),
    }


def read_edits(folder: Path) -> dict[str, list[list[int]]]:
    """[S, D, I, N] in words of each utterance in order of ids, for each set that has hypotheses in the folder."""
    edits = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        edits[path.stem] = [line["words"] for line in sorted(lines, key=lambda line: str(line["id"]))]
    return edits


def _read_lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from filter(str.strip, file)


def _write_line(file: gzip.GzipFile, content: Mapping[str, Any]) -> None:
    file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")


def _pack_study(recorded: RecordedStudy) -> dict[str, Any]:
    study = recorded.study.model_dump(mode="json")
    # Folders of the machine that ran it are no part of what it found.
    study |= {"corpus": "corpus", "storage": "studies", "tracking": None}
    base = recorded.base.model_dump(mode="json")
    base["data"]["corpus"] = "corpus"
    return {"kind": "study", "study": study, "base_recipe": base, "concurrency": recorded.concurrency}


def _unpack(content: Mapping[str, Any]) -> TrialRecord:
    epochs = tuple(_unpack_epoch(epoch) for epoch in content["epochs"])
    last = dict(epochs[-1].metrics) if epochs else {}
    final = {name: math.nan if value is None else value for name, value in content["final"].items()}
    return TrialRecord(
        int(content["number"]),
        TrialState.COMPLETE,
        baseline=content["baseline"],
        values=dict(content["values"]),
        point=content["point"],
        recipe_hash=content["recipe_hash"],
        epochs=epochs,
        metrics=last | final,
        final_metrics=final,
        planned_epochs=epochs[-1].epoch if epochs else None,
        decoding_stages=tuple(content["stages"]),
        started=_START,
        ended=_START + content["seconds"],
    )


def _unpack_epoch(content: Mapping[str, Any]) -> EpochReport:
    metrics = {name: value for name, value in content.items() if name not in ("epoch", "step", "seconds")}
    seconds = Seconds(training=metrics.get("train/seconds"), validation=metrics.get("dev/seconds"))
    return EpochReport(
        time=_START + content["seconds"],
        epoch=content["epoch"],
        step=content.get("step"),
        metrics=metrics,
        seconds=seconds,
    )


def _pack_metrics(report: EpochReport) -> dict[str, float | None]:
    known = {"train/seconds": report.seconds.training, "dev/seconds": report.seconds.validation}
    return _round_all(report.metrics) | {name: _round(value) for name, value in known.items() if value is not None}


def _round_all(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _round(value) for name, value in metrics.items()}


def _round(value: float) -> float | None:
    """The figure with its significant digits; null where it is not finite, as in an event."""
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if rounded - rounded == 0 else None
