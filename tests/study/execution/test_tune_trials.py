"""Pauses of a trial, with Tune on a real Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.recipe.files import named_recipe, with_values
from study.early_stopping.rules import Never
from study.execution.tune import run_trials
from study.workers.messages import CrewConfig, Report, Task, TrialConfig

EPOCHS = 3
RECIPE = with_values(named_recipe("tiny", "/speech"), {"training.epochs": EPOCHS, "training.seed": 0})


class PausingStudy:
    """Source, listener and admission of a trial of the stand-in, which pauses after every epoch and continues."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._is_paused = folder, True
        self.epochs: list[int] = []
        self.marks: list[str] = []  # the epoch that the trial's folder has as reported, at each pause
        self.is_complete = False

    def next(self) -> TrialConfig | None:
        if not self._is_paused:
            return None
        self._is_paused = False
        task = Task(RECIPE.model_dump_json(), RECIPE.hash, str(self._folder), score_tests=False)
        return TrialConfig(0, task, is_baseline=False)

    def is_done(self) -> bool:
        return self.is_complete

    def is_stopping(self) -> bool:
        return False

    def admits(self, running: int) -> bool:
        return True

    def look_at_commands(self) -> None: ...

    def find_orders(self, number: int) -> None: ...

    def record_epoch(self, number: int, report: Report) -> None:
        self.epochs.append(int(report.metrics["epoch"]))

    def interrupt_trial(self, number: int, reason: str) -> None:
        mark = self._folder / "done"
        self.marks.append(mark.read_text() if mark.exists() else "none")
        self._is_paused = True

    def complete(self, number: int, metrics: dict[str, float]) -> None:
        self.is_complete = True


def test_a_trial_that_pauses_has_left_its_workers_before_it_may_continue_with_others(
    ray_here: None, tmp_path: Path
) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    study, crew = PausingStudy(folder), CrewConfig("stub_training:train", str(tmp_path / "train"), 1)
    listener: Any = study
    run_trials(study, listener, Never(), "dev/wer", crew, tmp_path, study, lambda number: "no room for the rest")
    assert study.is_complete
    assert study.epochs == [1, 2, 3], "each was reported once"
    assert study.marks == ["1", "2", "3"]
