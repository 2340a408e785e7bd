"""A recorded study for tests of replay: configurations along one axis, each with some seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.events import EpochReport, Seconds, TrialState
from study.ledger.records import TrialRecord
from study.replay.recorded import RecordedStudy
from study.replay.table import Table, make_table

EPOCHS, SECONDS, START, END = 4, 10.0, 5.0, 3.0  # of an epoch, before the first one, after the last one
Curve = Callable[[float, int, int], Mapping[str, float]]  # CTC weight, seed, epoch -> metrics
TINY = named_recipe("tiny", "c")


def make_study(**changes: Any) -> StudyFile:
    """A study file that searches the CTC weight."""
    content: dict[str, Any] = {
        "name": "recorded",
        "corpus": "c",
        "search": {"sampler": "random", "ctc_weight": {"uniform": [0.0, 1.0]}},
        "early_stopping": {"rule": "none", "grace_epochs": 1, "reduction": 2},
        "baselines": [],
    }
    return StudyFile.model_validate(content | changes)


def fall(weight: float, seed: int, epoch: int) -> Mapping[str, float]:
    """The lower the weight the better, at every epoch; a seed more costs a hundredth."""
    return {"dev/wer": 100.0 * weight + seed / 100 + 10.0 * (EPOCHS - epoch)}


def make_training(number: int, weight: float, seed: int = 0, curve: Curve = fall, **fields: Any) -> TrialRecord:
    """A trial that ran to its end: `START` seconds, then `SECONDS` an epoch, then `END`."""
    epochs = tuple(
        EpochReport(
            time=1000.0 + START + epoch * SECONDS,
            epoch=epoch,
            metrics=dict(curve(weight, seed, epoch)),
            seconds=Seconds(training=8.0, validation=2.0),
        )
        for epoch in range(1, EPOCHS + 1)
    )
    content: dict[str, Any] = {
        "state": TrialState.COMPLETE,
        "values": {"ctc_weight": weight} | ({"training.seed": seed} if seed else {}),
        "point": {"ctc_weight": weight},
        "recipe_hash": f"{number:04x}",
        "epochs": epochs,
        "metrics": dict(epochs[-1].metrics),
        "started": 1000.0,
        "ended": 1000.0 + START + EPOCHS * SECONDS + END,
    }
    return TrialRecord(number, **(content | fields))


def make_recorded(weights: Sequence[float], seeds: int = 1, curve: Curve = fall, **changes: Any) -> RecordedStudy:
    """All configurations with the first seed, then with the next."""
    trials = [(weight, seed) for seed in range(seeds) for weight in weights]
    records = [make_training(number, weight, seed, curve) for number, (weight, seed) in enumerate(trials)]
    return RecordedStudy(make_study(**changes), TINY, tuple(records), concurrency=2)


def make_recorded_table(configurations: int = 12, seeds: int = 1, curve: Curve = fall, **changes: Any) -> Table:
    """Configurations evenly along the CTC weight."""
    weights = [number / configurations for number in range(configurations)]
    return make_table([make_recorded(weights, seeds, curve, **changes)])
