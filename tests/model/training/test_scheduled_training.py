"""Trainings with a plateau, rates, layer drop and a schedule of the loss: resumed, on two workers, and as reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import (
    ALONE,
    assert_equal,
    assert_same_weights,
    read_chosen_weights,
    train_whole_and_first_epoch,
    without_clock,
)

from model.errors import TrainingInterruptedError
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.runtime.stop_request import StopRequest
from model.training import loop
from model.training.broken_batch import TrainingStep
from model.training.loop import train, train_epoch
from model.training.run import TrainingRun, start_or_resume
from model.training.schedules import schedule_step
from model.weights.checkpoint_files import latest_checkpoint, load_position

ALL: dict[str, Any] = {
    "training.epochs": 4,
    "encoder.layers": 2,
    "encoder.layer_drop": 0.3,
    "decoder.layer_drop": 0.3,
    "loss.auxiliary": {"placement": [2], "weights": [0.4]},
    "loss.schedule": {"shape": "cosine", "start": 0.25, "stop": 0.75, "auxiliary": 0.0, "ctc_weight": 0.6},
    "optimiser.decay": "plateau",
    "optimiser.warmup_steps": None,
    "optimiser.warmup": 0.25,
    "optimiser.plateau_patience": 1,
    "optimiser.plateau_threshold": 0.9,  # no epoch is so much better: the rate falls after each
    "optimiser.floor": 0.05,
    "training.precision": "tf32",
    "validation.encoder_precision": "bf16",
    "optimiser.rates": {"encoder": 0.5, "patterns": [["decoder.layers.0.*", 0.25]]},
}


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> StopRequest:
    """A request that is made at a step of the run, and followed one step later."""
    stop, take_step = StopRequest(), loop.run_step

    def run_step(run: TrainingRun, step: TrainingStep, progress: float) -> float:
        if step.global_step == number:
            stop.make()
        return take_step(run, step, progress)

    monkeypatch.setattr(loop, "run_step", run_step)
    return stop


def test_a_training_that_was_stopped_within_a_report_after_one_and_in_an_epoch_goes_on_as_if_it_had_not_been(
    make_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"encoder.dropout": 0.1, "decoder.dropout": 0.1}
    recipe = make_recipe(ALL | values)
    whole, parts = train_whole_and_first_epoch(recipe, tmp_path)
    train(recipe, tmp_path / "parts", lambda metrics: parts.append(metrics) or metrics["epoch"] != 2)
    assert [metrics["epoch"] for metrics in parts] == [1, 1, 2], "its report stopped it"
    with monkeypatch.context() as patch, pytest.raises(TrainingInterruptedError, match="after step 2 of epoch 3"):
        train(recipe, tmp_path / "parts", parts.append, stop=stop_at(patch, int(parts[-1]["step"]) + 1))
    assert len(parts) == 3
    train(recipe, tmp_path / "parts", parts.append)
    assert [without_clock(metrics) for metrics in parts[1:]] == [without_clock(metrics) for metrics in whole]
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")
    assert_equal(read_chosen_weights(tmp_path / "parts"), read_chosen_weights(tmp_path / "whole"))
    rates = [metrics["train/learning_rate"] / recipe.optimiser.learning_rate for metrics in whole[:4]]
    assert rates[1:] == pytest.approx([1.0, 0.5, 0.25])
    assert rates[0] < 1.0, "it warmed up in the first epoch"
    assert [metrics["train/auxiliary_factor"] for metrics in whole[:4]] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert [metrics["train/ctc_weight"] for metrics in whole[:4]] == pytest.approx([0.3, 0.45, 0.6, 0.6])


def test_a_checkpoint_from_before_there_was_a_plateau_is_still_read(make_recipe, run_folder: Path) -> None:
    recipe = make_recipe({"training.epochs": 1})
    train(recipe, run_folder, lambda _: None)
    latest = latest_checkpoint(run_folder / "checkpoints")
    assert latest is not None
    state = latest / "state.json"
    assert '"plateau_wers": []' in state.read_text()
    state.write_text(state.read_text().replace(', "plateau_wers": []', ""))
    assert load_position(latest, recipe).plateau_wers == []


def test_the_loss_of_a_step_has_the_weights_of_its_progress(make_recipe, run_folder: Path) -> None:
    recipe = make_recipe(ALL | {"encoder.layer_drop": 0.0, "decoder.layer_drop": 0.0})
    run = start_or_resume(recipe, run_folder, ALONE)
    (part,) = run.training_set.load_share(run.training_set.plan_pass(0)[0], 0, 1, 1, "0/0")
    for progress, auxiliary, ctc_weight in ((0.0, 0.4, 0.3), (0.5, 0.2, 0.45), (1.0, 0.0, 0.6)):
        schedule_step(run.model, 0, 1, progress)
        losses = run.model(part.features, part.lengths, part.labels, part.counts)
        attention = auxiliary * losses.per_classifier[0] + (1 - auxiliary) * losses.per_classifier[1]
        torch.testing.assert_close(losses.attention, attention)
        torch.testing.assert_close(losses.total, ctc_weight * losses.ctc + (1 - ctc_weight) * attention)


def test_layer_drop_that_skips_nothing_changes_no_bit(make_recipe, tmp_path: Path) -> None:
    """Which layers are skipped is drawn apart from dropout and masks."""
    values = {"encoder.dropout": 0.1, "decoder.dropout": 0.1, "training.epochs": 1, "data.batch_seconds": 30.0}
    weights = []
    for probability in (0.0, 1e-12):
        drops = {"encoder.layer_drop": probability, "decoder.layer_drop": probability}
        run = start_or_resume(make_recipe(values | drops), tmp_path / str(probability), ALONE)
        train_epoch(run)
        weights.append(run.model.state_dict())
    assert_equal(*weights)


def train_one_epoch(recipe: Recipe, folder: Path) -> tuple[list[Any], dict[str, float], dict[str, torch.Tensor]]:
    """Which layers were skipped, the figures of the epoch, and AdamW's averages of the gradients."""
    run = start_or_resume(recipe, folder, current_context())
    skipped: list[Any] = []
    take_step = loop.train_step

    def train_step(*arguments: Any) -> Any:
        skipped.append((run.model.encoder.skipped, run.model.decoder.skipped))
        return take_step(*arguments)

    loop.train_step = train_step
    try:
        train_epoch(run)
    finally:
        loop.train_step = take_step
    averages = {name: run.optimiser.state[value]["exp_avg"] for name, value in run.model.named_parameters()}
    return skipped, without_clock(run.state.losses), averages


def _train_on_two(rank: int, recipe: Recipe, folder: Path) -> Any:
    return train_one_epoch(recipe, folder)


def test_two_workers_skip_the_layers_that_one_does_and_have_its_gradients(
    make_recipe, tmp_path: Path, worker_pair
) -> None:
    # Weights hardly move: else AdamW makes as much of a rounding error as of a gradient.
    values = {"encoder.layer_drop": 0.5, "decoder.dropout": 0.0, "optimiser.learning_rate": 1e-9}
    recipe = make_recipe(ALL | values | {"data.batch_seconds": 7.0})
    skipped, figures, averages = train_one_epoch(recipe, tmp_path / "one")
    assert {layer in encoder for layer in (1, 2) for encoder, _ in skipped} == {True, False}
    assert len(set(skipped)) > 4, "other layers in other steps"
    pair = worker_pair.run(_train_on_two, recipe, tmp_path / "two")
    for skipped_by_two, figures_of_two, averages_of_two in pair:
        assert skipped_by_two == skipped
        assert figures_of_two == pytest.approx(figures, rel=1e-4, abs=1e-8)
        for name, value in averages.items():
            assert float((value - averages_of_two[name]).norm()) <= 1e-4 * float(value.norm()) + 1e-7, name
    assert_equal(pair[0][2], pair[1][2])


def _train_to_the_end_on_two(rank: int, recipe: Recipe, folder: Path) -> list[dict[str, float]]:
    reports: list[dict[str, float]] = []
    train(recipe, folder, lambda metrics: reports.append(metrics) or metrics["epoch"] != 2, score_tests=False)
    train(recipe, folder, reports.append, score_tests=False)
    return [without_clock(metrics) for metrics in reports]


def test_the_ranks_of_a_training_that_is_resumed_have_one_plateau(make_recipe, tmp_path: Path, worker_pair) -> None:
    recipe = make_recipe(ALL | {"data.batch_seconds": 60.0, "training.epochs": 3})
    one, other = worker_pair.run(_train_to_the_end_on_two, recipe, tmp_path / "run")
    assert one == other
    rates = [metrics["train/learning_rate"] for metrics in one if "train/learning_rate" in metrics]
    assert [rate / recipe.optimiser.learning_rate for rate in rates[1:]] == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("decay", ["noam", "cosine"])
def test_trainings_with_noam_and_with_a_floor_report_the_rate_of_their_last_step(
    make_recipe, run_folder: Path, decay: str
) -> None:
    recipe = make_recipe({"optimiser.decay": decay, "optimiser.floor": 0.3, "optimiser.warmup_steps": 2})
    run = start_or_resume(recipe, run_folder, ALONE)
    train_epoch(run)
    train_epoch(run)
    steps, rate = run.state.step, run.state.losses["train/learning_rate"] / recipe.optimiser.learning_rate
    assert steps > 4
    if decay == "noam":
        assert rate == pytest.approx(max(0.3, (2 / steps) ** 0.5))
        assert run.state.losses["train/peak_learning_rate"] == recipe.optimiser.learning_rate
    else:
        assert 0.3 < rate < 0.4
