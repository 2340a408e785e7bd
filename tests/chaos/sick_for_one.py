"""A stand-in for training, whose first trial alone fails on planted nodes, as after a fault that does not come back."""

from __future__ import annotations

from pathlib import Path

import stub_training
from chaos import sick_training

from model.recipe.recipe import Recipe
from model.runtime.stop_request import StopRequest

FIRST = "0000"


def train(
    recipe: Recipe,
    folder: Path,
    report: stub_training.Report,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    work = sick_training if folder.name == FIRST else stub_training
    work.train(recipe, folder, report, score_tests, parts_file, stop)
