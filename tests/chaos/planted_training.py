"""Training with a fault planted in it, and what removes it: by seeds and files, because workers are other processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import stub_training
import torch
from torch import nn

from model.data.batches import Batch
from model.network.losses import Losses
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.runtime.stop_request import StopRequest
from model.training import loop, optimiser

CORRECTED = "corrected"  # a file in the current folder: from now on every recipe trains well
NAN_SEED, EPOCH, STEP = 7, 2, 2  # the seed of the recipe whose features hold a NaN, and where
MOST = 1  # utterances whose gradients fit into the memory that is left

prepare = stub_training.prepare


def train_until_corrected(
    recipe: Recipe,
    folder: Path,
    report: stub_training.Report,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """The stub, whose faults are gone once the file `corrected` is there."""
    if (folder.parents[3] / CORRECTED).exists():
        training = recipe.training.model_copy(update={"seed": stub_training.SUCCEEDS})
        recipe = recipe.model_copy(update={"training": training})
    stub_training.train(recipe, folder, report, score_tests, stop=stop)


def train_with_nan(recipe: Recipe, folder: Path, *arguments: Any) -> None:
    """The real training; one recipe's features hold NaN at one step."""
    run_step = loop.run_step

    def run_planted_step(run: loop.TrainingRun, step: loop.TrainingStep, progress: float) -> float:
        if (recipe.training.seed, step.epoch, step.step) == (NAN_SEED, EPOCH, STEP):
            for part in step.parts:
                part.features[:, 5] = torch.nan
        return run_step(run, step, progress)

    with mock.patch.object(loop, "run_step", run_planted_step):
        loop.train(recipe, folder, *arguments)


def train_in_little_memory(recipe: Recipe, folder: Path, *arguments: Any) -> None:
    """The real training; from epoch 2 on, steps of worker 1 run out of memory with more than `MOST` utterances.

    The memory probe finds that all fit.
    """
    accumulate = optimiser.accumulate_gradients

    def accumulate_few(model: nn.Module, part: Batch, *others: Any) -> Losses:
        is_short = current_context().rank == 1 and (folder / "checkpoints" / "epoch-0001").exists()
        if is_short and len(part.ids) > MOST:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return accumulate(model, part, *others)

    with mock.patch.object(optimiser, "accumulate_gradients", accumulate_few):
        loop.train(recipe, folder, *arguments)
