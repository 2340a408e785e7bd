"""Epochs of a number of steps, which end in the middle of a pass over the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import ALONE, assert_same_weights, plan_ids, poison, train_whole_and_first_epoch, without_clock

from model.data.epoch_plan import DataPosition
from model.errors import NonFiniteLossError, UserError
from model.training.loop import train
from model.training.run import start_or_resume
from model.weights.checkpoint_files import latest_checkpoint, load_position

RANDOM = {"encoder.dropout": 0.1, "decoder.dropout": 0.1, "augmentation.time_masks": 2}
BATCHES = {"data.batch_seconds": 7.0, "data.buckets": 1, "optimiser.decay": "none", "optimiser.warmup": 0.0}


def plan_passes(recipe, folder: Path, count: int) -> list[list[str]]:
    """The batches of the first passes over the data."""
    training_set = start_or_resume(recipe, folder, ALONE).training_set
    return [batch for data_pass in range(count) for batch in plan_ids(training_set, data_pass)]


def test_each_epoch_of_steps_is_validated_reported_and_kept_as_a_checkpoint(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(BATCHES | {"training.epochs": 3, "training.epoch_steps": 4})
    per_pass = len(plan_passes(recipe, tmp_path / "plan", 1))
    assert per_pass in (5, 6, 7, 9, 10, 11), "an epoch ends within a pass, another goes over its end"
    reports: list[dict[str, float]] = []
    train(recipe, tmp_path / "run", reports.append)
    assert [metrics["epoch"] for metrics in reports[:3]] == [1, 2, 3]
    assert [metrics["step"] for metrics in reports[:3]] == [4, 8, 12]
    assert all("dev/wer" in metrics for metrics in reports[:3])
    assert reports[0]["train/data_passes"] == pytest.approx(4 / per_pass)
    assert 1.0 < reports[2]["train/data_passes"] < 2.0
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["epoch-0002", "epoch-0003"]


def test_epochs_of_steps_train_on_the_batches_and_draws_of_the_passes_that_they_divide(
    make_recipe, tmp_path: Path
) -> None:
    """Two passes in epochs of a pass each, and the same steps in one epoch, end in the same weights bit for bit."""
    by_pass = make_recipe(BATCHES | RANDOM | {"training.epochs": 2})
    steps = len(plan_passes(by_pass, tmp_path / "plan", 2))
    by_steps = make_recipe(BATCHES | RANDOM | {"training.epochs": 1, "training.epoch_steps": steps})
    reports: list[dict[str, float]] = []
    train(by_pass, tmp_path / "passes", lambda _: None)
    train(by_steps, tmp_path / "steps", reports.append)
    assert reports[0]["train/data_passes"] == 2.0
    assert_same_weights(tmp_path / "steps", tmp_path / "passes")


@pytest.mark.parametrize("share", [0.25, 1.5])
def test_an_epoch_of_a_share_has_that_share_of_the_steps_of_a_pass(make_recipe, tmp_path: Path, share: float) -> None:
    recipe = make_recipe(BATCHES | {"training.epochs": 2, "training.epoch_share": share})
    per_pass = len(plan_passes(recipe, tmp_path / "plan", 1))
    reports: list[dict[str, float]] = []
    train(recipe, tmp_path / "run", reports.append)
    steps = round(share * per_pass)
    assert [metrics["step"] for metrics in reports[:2]] == [steps, 2 * steps]
    assert reports[0]["train/data_passes"] == pytest.approx(steps / per_pass, rel=0.1)


def test_an_epoch_with_two_lengths_is_refused(make_recipe) -> None:
    with pytest.raises(UserError, match=r"epoch_steps is 4 and epoch_share is 0\.5, but an epoch has one length"):
        make_recipe({"training.epoch_steps": 4, "training.epoch_share": 0.5})


def test_a_run_stopped_within_a_pass_goes_on_bit_for_bit(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(RANDOM | {"data.batch_seconds": 7.0, "training.epochs": 3, "training.epoch_steps": 4})
    whole, parts = train_whole_and_first_epoch(recipe, tmp_path)
    latest = latest_checkpoint(tmp_path / "parts" / "checkpoints")
    assert latest is not None
    position = load_position(latest, recipe)
    assert DataPosition(position.passes, position.batches) == DataPosition(0, 4)
    torch.rand(11)
    train(recipe, tmp_path / "parts", parts.append)
    assert [without_clock(metrics) for metrics in parts] == [without_clock(metrics) for metrics in (whole[0], *whole)]
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")


def test_the_learning_rate_falls_over_all_steps_of_all_epochs(make_recipe, tmp_path: Path) -> None:
    values = BATCHES | {"training.epochs": 4, "training.epoch_steps": 3, "optimiser.decay": "linear"}
    recipe = make_recipe(values | {"optimiser.learning_rate": 1e-3, "optimiser.warmup_steps": None})
    reports: list[dict[str, float]] = []
    train(recipe, tmp_path / "run", reports.append)
    rates = [metrics["train/learning_rate"] for metrics in reports[:4]]
    assert rates == pytest.approx([1e-3 * (1 - (epoch - 0.5 / 3) / 4) for epoch in (1, 2, 3, 4)])


def test_a_recipe_whose_epochs_are_passes_has_the_hash_that_it_had_before_epochs_could_be_steps(make_recipe) -> None:
    recipe = make_recipe({})
    content = recipe.model_dump(mode="json")
    del content["training"]["epoch_steps"], content["training"]["epoch_share"]
    assert type(recipe).model_validate(content).hash == recipe.hash
    assert make_recipe({"training.epoch_steps": 7}).hash != recipe.hash
    assert make_recipe({"training.epoch_share": 0.5}).hash != recipe.hash


@pytest.mark.parametrize("stopped", [False, True])
def test_skipped_batches_in_a_row_are_counted_across_epochs_and_restarts(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    steps = {"training.epochs": 2, "training.epoch_steps": 3}
    recipe = make_recipe(BATCHES | steps | {"training.skips_in_a_row": 3, "training.skips_share": 1.0})
    plan = plan_passes(recipe, tmp_path / "plan", 1)
    poison(monkeypatch, [batch[0] for batch in plan[1:4]], epoch=1)
    if stopped:
        train(recipe, tmp_path / "run", lambda _: False)
    with pytest.raises(NonFiniteLossError, match="at epoch 2, step 1: 3 batches in a row were skipped"):
        train(recipe, tmp_path / "run", lambda _: None)
