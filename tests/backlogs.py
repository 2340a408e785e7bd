"""Studies whose trials ended while MLflow was away, written at once."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.event_lines import to_line
from study.ledger.events import (
    Seconds,
    SessionStarted,
    StudyEnded,
    TrialEnded,
    TrialEpoch,
    TrialStarted,
    TrialState,
)
from study.ledger.ledger import Ledger

RECIPE = named_recipe("tiny", "/speech")
STUDY = {"name": "probe", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}

LONG_NAMES = ("dev/wer", "dev/cer", "dev/perplexity", "dev/ctc_wer", "train/loss", "train/loss_ctc")


def open_study(folder: Path, tracking: str) -> Ledger:
    """A study without an event in `folder`, tracked there."""
    study = StudyFile.model_validate(STUDY | {"tracking": tracking})
    return Ledger.create_or_open(folder / "probe", study, RECIPE, {"id": "one"})


def write_backlog(study_folder: Path, trials: int, epochs: int, metrics: int) -> None:
    """Complete trials of `epochs` times `metrics` points each, in one event file of a study that has none."""
    names = [f"dev/set-{number}/wer" for number in range(metrics)]
    (study_folder / "events").mkdir()
    with (study_folder / "events" / "000001.jsonl").open("wb") as file:
        file.write(to_line(SessionStarted(time=1.0)))
        for number in range(trials):
            start = 10.0 + 100 * number
            file.write(to_line(TrialStarted(time=start, number=number, values={"ctc_weight": number / trials})))
            for epoch in range(1, epochs + 1):
                figures = {name: 90.0 / epoch + at for at, name in enumerate(names)}
                file.write(to_line(TrialEpoch(time=start + epoch, number=number, epoch=epoch, metrics=figures)))
            file.write(to_line(TrialEnded(time=start + 50, number=number, state=TrialState.COMPLETE)))


def write_long_study(study_folder: Path, trials: int, epochs: int) -> None:
    """An ended study with all that the events of a real one have: twenty figures of sixteen digits an epoch."""
    random = Random(0)
    names = [*LONG_NAMES, *(f"dev/set-{number}/wer" for number in range(20 - len(LONG_NAMES)))]
    (study_folder / "events").mkdir()
    with (study_folder / "events" / "000001.jsonl").open("wb") as file:
        file.write(to_line(SessionStarted(time=1.0, trials=trials, concurrency=2)))
        for number in range(trials):
            start, quality = 10.0 + 100 * number, 30 * random.random()
            about: dict[str, Any] = {
                "number": number,
                "recipe_hash": f"{number:016x}",
                "recipe_class": "decred",
                "epochs": epochs,
            }
            file.write(to_line(TrialStarted(time=start, values={"ctc_weight": random.random()}, **about)))
            for epoch in range(1, epochs + 1):
                report: dict[str, Any] = {
                    "metrics": {name: 90 / epoch + quality + 9 * random.random() for name in names},
                    "seconds": Seconds(training=random.random(), validation=random.random(), decoding=0.5),
                    **{"step": 100 * epoch, "node": "node-1", "device": "cpu"},
                }
                file.write(to_line(TrialEpoch(time=start + epoch, number=number, epoch=epoch, **report)))
            final = {"dev/wer_final": 9 + quality, "test/a/wer": 12 + quality}
            file.write(to_line(TrialEnded(time=start + 50, number=number, state=TrialState.COMPLETE, metrics=final)))
        file.write(to_line(StudyEnded(time=start + 60, state=TrialState.COMPLETE, best=0)))
