"""Of trials that have ended Tune keeps the last one at most, on a real Ray and in its controller."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial

from model.recipe.files import named_recipe, with_values
from study.early_stopping.rules import Never
from study.execution.tune import run_trials
from study.workers.failure import Failure
from study.workers.messages import CrewConfig, Report, Task, TrialConfig

TRIALS = 8
RECIPE = with_values(named_recipe("tiny", "/speech"), {"training.epochs": 2, "training.seed": 0})


class CountingStudy:
    """Source, listener and admission of trials of the stand-in, one at a time; every third one fails."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._next = folder, 0
        self.ended: list[int] = []
        self.alive: list[int] = []  # trials that Tune has, each time one ends

    def next(self) -> TrialConfig | None:
        number, self._next = self._next, self._next + 1
        if number >= TRIALS:
            return None
        recipe = with_values(RECIPE, {"training.seed": 1}) if number % 3 == 2 else RECIPE
        folder = self._folder / f"{number:04d}"
        folder.mkdir(parents=True)
        task = Task(recipe.model_dump_json(), recipe.hash, str(folder), score_tests=False)
        return TrialConfig(number, task, is_baseline=False)

    def is_done(self) -> bool:
        return self._next >= TRIALS

    def is_stopping(self) -> bool:
        return False

    def admits(self, running: int) -> bool:
        return running == 0

    def record_epoch(self, number: int, report: Report) -> None: ...

    def look_at_commands(self) -> None: ...

    def find_orders(self, number: int) -> None: ...

    def complete(self, number: int, metrics: dict[str, float]) -> None:
        self._count(number)

    def fail(self, number: int, failure: Failure) -> None:
        self._count(number)

    def _count(self, number: int) -> None:
        self.ended.append(number)
        self.alive.append(sum(type(one) is Trial for one in gc.get_objects()))


def test_of_all_trials_that_have_ended_tune_keeps_none(ray_here: None, tmp_path: Path) -> None:
    study, crew = CountingStudy(tmp_path / "trials"), CrewConfig("stub_training:train", str(tmp_path / "train"), 1)
    listener: Any = study
    gc.collect()  # trials of earlier tests, which would go while these are counted
    run_trials(study, listener, Never(), "dev/wer", crew, tmp_path, study)
    assert study.ended == list(range(TRIALS))
    # The one that ends, the one before, which goes at the next step, and what a caller up the stack still names.
    assert max(study.alive) - min(study.alive) <= 2
    (snapshot,) = (tmp_path / "tune").glob("experiment_state-*.json")
    assert len(json.loads(snapshot.read_text())["trial_data"]) <= 2, "Tune's own record of all its trials"


class LingeringStudy(CountingStudy):
    """It is not done at once when its last trial has ended, as while something else may still come."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.looks = 0

    def is_done(self) -> bool:
        self.looks += super().is_done() and len(self.ended) == TRIALS
        return self.looks > 5


def test_tune_never_reads_its_snapshot_back_which_a_full_disk_may_have_cut_off(
    ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(analysis: ExperimentAnalysis) -> list[Trial]:
        raise ValueError("the snapshot is cut off")

    monkeypatch.setattr(ExperimentAnalysis, "_load_trials", read)
    study, crew = LingeringStudy(tmp_path / "trials"), CrewConfig("stub_training:train", str(tmp_path / "train"), 1)
    listener: Any = study
    assert run_trials(study, listener, Never(), "dev/wer", crew, tmp_path, study) is None
    assert study.ended == list(range(TRIALS))
    assert study.looks > 5
