"""Training with a fault planted in it, and what mends it: by seeds and files, because workers are other processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import stub_training
import torch

from model.recipe.recipe import Recipe
from model.training import loop

MENDED = "mended"  # a file in the current folder: from now on every recipe trains well
POISONED, EPOCH, STEP = 7, 2, 2  # the seed of the recipe that meets a NaN, and where

prepare = stub_training.prepare


def until_mended(recipe: Recipe, folder: Path, report: stub_training.Report) -> None:
    """The stub, whose faults are gone once the file `mended` is there."""
    if (folder.parents[3] / MENDED).exists():
        training = recipe.training.model_copy(update={"seed": stub_training.SUCCEEDS})
        recipe = recipe.model_copy(update={"training": training})
    stub_training.train(recipe, folder, report)


def poisoned(recipe: Recipe, folder: Path, report: loop.Report) -> None:
    """The real training; one recipe's features hold NaN at one step."""
    run_step = loop.run_step

    def watched(run: loop.TrainingRun, step: loop.TrainingStep, progress: float) -> torch.Tensor:
        if (recipe.training.seed, step.epoch, step.step) == (POISONED, EPOCH, STEP):
            run = replace(run, training_set=_Poisoned(run.training_set))
        return run_step(run, step, progress)

    with mock.patch.object(loop, "run_step", watched):
        loop.train(recipe, folder, report)


class _Poisoned(SimpleNamespace):
    """A training set whose shares hold NaN in one frame."""

    def __init__(self, training_set: loop.TrainingSet) -> None:
        super().__init__(training_set=training_set)

    def load_share(self, *args: Any) -> list[Any]:
        parts = self.training_set.load_share(*args)
        for part in parts:
            part.features[:, 5] = torch.nan
        return list(parts)
