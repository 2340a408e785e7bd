"""A training on two workers that is killed with SIGKILL goes on to the same bits as one that is not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from processes import start_group, wait_for_death
from training_runs import assert_equal, assert_same_weights, read_chosen_weights, read_weights

from model.recipe.recipe import Recipe
from model.training import loop
from model.weights import checkpoint_files

VALUES = {
    "training.epochs": 2,
    "training.average": 2,
    "encoder.dropout": 0.1,
    "decoder.dropout": 0.1,
    "augmentation.time_masks": 2,
    "augmentation.frequency_masks": 2,
    "data.batch_seconds": 24.0,
}


def _train(rank: int, recipe: Recipe, folder: Path, killed_at: tuple[int, int] | None) -> None:
    """Train to the end; rank 1 kills itself before the step (epoch, step)."""
    run_step = loop.run_step

    def run_step_or_die(run: loop.TrainingRun, step: loop.TrainingStep, progress: float) -> float:
        if rank == 1 and (step.epoch, step.step) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_step(run, step, progress)

    loop.run_step = run_step_or_die
    loop.train(recipe, folder, lambda _: None, score_tests=False)


def _train_to_the_end(folder: Path, recipe: Recipe, run: Path) -> None:
    for process in start_group(folder, _train, recipe, run, None):
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("choose", ["average_best", pytest.param("ema", marks=pytest.mark.slow)])
def test_two_workers_killed_in_an_epoch_resume_to_the_weights_of_uninterrupted_ones(
    make_recipe, tmp_path: Path, choose: str
) -> None:
    recipe, run = make_recipe(VALUES | {"training.choose": choose}), tmp_path / "killed"
    wait_for_death(start_group(tmp_path / "first", _train, recipe, run, (2, 2)))
    latest = checkpoint_files.latest_checkpoint(run / "checkpoints")
    assert latest is not None
    assert latest.name == "epoch-0001", "it was killed between two checkpoints"
    before = read_weights(run)
    _train_to_the_end(tmp_path / "second", recipe, run)
    _train_to_the_end(tmp_path / "uninterrupted", recipe, tmp_path / "whole")
    assert_same_weights(run, tmp_path / "whole")
    assert_equal(read_chosen_weights(run), read_chosen_weights(tmp_path / "whole"))
    assert not torch.equal(before["decoder.final.weight"], read_weights(run)["decoder.final.weight"])
