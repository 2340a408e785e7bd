"""A training notes its progress: so that a long training is distinguished from one that hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model.recipe.recipe import Recipe
from model.runtime.progress import follow_progress
from model.training.loop import train


def test_each_step_and_each_scored_batch_of_a_training_is_noted(
    make_recipe: Callable[..., Recipe], run_folder: Path
) -> None:
    notes, steps = [], []
    reports: list[int] = []

    def report(metrics: dict[str, float]) -> None:
        steps.append(int(metrics["step"]))
        reports.append(len(notes))

    with follow_progress(lambda: notes.append(1)):
        train(make_recipe(), run_folder, report)
    first, last, finished = reports
    assert first > steps[0], "its steps, and a scored batch"
    assert last - first > steps[1] - steps[0]
    assert finished > last, "the test sets are scored"
