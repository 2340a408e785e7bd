"""What a step draws at random is a function of the recipe's seed, the step and the worker, or the utterance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_runs import ALONE

from model.data.epoch_plan import PlannedBatch
from model.data.reading import load_share
from model.training import loop
from model.training.broken_batch import TrainingStep
from model.training.loop import choose_share, dropout_seed
from model.training.run import TrainingRun, start_or_resume

MASKS = {"augmentation.time_masks": 2, "augmentation.frequency_masks": 2, "optimiser.learning_rate": 1e-9}
DROPOUT = {"encoder.dropout": 0.3, "decoder.dropout": 0.3, "optimiser.learning_rate": 1e-9}
PLACES = st.tuples(st.integers(0, 99), st.integers(1, 9999), st.integers(0, 99))


@given(PLACES, PLACES)
def test_each_seed_step_and_worker_has_a_dropout_seed_of_its_own(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    assert (dropout_seed(*one) == dropout_seed(*other)) == (one == other)
    torch.manual_seed(dropout_seed(*one))  # torch takes it


def load_features(run: TrainingRun, epoch: int, seed: int) -> torch.Tensor:
    """The features of the first batch as a step of the epoch (from 0) gives them to a model of this seed."""
    run.state = replace(run.state, epoch=epoch, seed=seed)
    batch = PlannedBatch(epoch, run.training_set.plan_pass(0)[0])
    return load_share(run.training_set, choose_share(run, batch))[0].features


def test_no_epoch_has_the_masks_of_another_one_of_another_seed(make_recipe, run_folder: Path) -> None:
    run = start_or_resume(make_recipe(MASKS), run_folder, ALONE)
    first = load_features(run, epoch=1, seed=0)
    assert torch.equal(load_features(run, epoch=1, seed=0), first)
    assert not torch.equal(load_features(run, epoch=0, seed=1), first), "seeds and epochs are not added up"
    assert not torch.equal(load_features(run, epoch=2, seed=0), first)
    assert not torch.equal(load_features(run, epoch=1, seed=1), first)


def test_a_step_draws_the_same_dropout_whatever_was_drawn_before_it(
    make_recipe, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_or_resume(make_recipe(DROPOUT), run_folder, ALONE)
    run.model.train()
    monkeypatch.setattr(run.optimiser, "step", lambda: None)
    batch = PlannedBatch(0, run.training_set.plan_pass(0)[0])

    def loss_of(number: int) -> float:
        step = TrainingStep(1, number, number, batch, load_share(run.training_set, choose_share(run, batch)))
        loop.run_step(run, step, 0.0)
        assert step.result is not None
        return float(step.result.losses[0].total.detach())

    first, second = loss_of(1), loss_of(2)
    torch.manual_seed(5)
    assert loss_of(2) == second != first
    torch.rand(11)
    assert loss_of(1) == first
