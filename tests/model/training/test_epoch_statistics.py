"""What an epoch's report says of its steps, against what the steps were given and gave."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_runs import ALONE

from model.training import loop
from model.training.loop import train_epoch
from model.training.optimiser import StepResult
from model.training.run import start_or_resume


def test_the_figures_of_an_epoch_are_means_over_its_steps_and_sums_over_what_was_read(
    make_recipe, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[StepResult] = []

    def train_step(*arguments, step=loop.train_step) -> StepResult:
        results.append(step(*arguments))
        return results[-1]

    monkeypatch.setattr(loop, "train_step", train_step)
    recipe = make_recipe({"loss.auxiliary": {"placement": [1, 3], "weights": [0.2, 0.3]}, "optimiser.accumulate": 2})
    run = start_or_resume(recipe, run_folder, ALONE)
    train_epoch(run)
    figures, utterances = run.state.losses, run.training_set.utterances
    assert len(results) == run.state.step == len(run.training_set.plan_pass(0))

    def mean(values: list[float]) -> float:
        return sum(values) / len(results)

    parts = [part for result in results for part in result.losses]
    assert figures["train/gradient_norm"] == pytest.approx(mean([float(result.norm) for result in results]))
    assert figures["train/loss"] == pytest.approx(mean([float(part.total.detach()) for part in parts]))
    for index, name in enumerate(("loss_layer_1", "loss_layer_3", "loss_final")):
        expected = mean([float(part.per_classifier[index].detach()) for part in parts])
        assert figures[f"train/{name}"] == pytest.approx(expected), "parts of a batch add up to its loss"
    seconds = figures["train/seconds"]
    frames = utterances.frames[run.training_set.rows].sum()
    assert figures["train/frames_per_second"] * seconds == pytest.approx(frames)
    assert figures["train/frames_per_step"] * len(results) == pytest.approx(frames)
    tokens = utterances.label_counts[run.training_set.rows].sum()
    assert figures["train/tokens_per_second"] * seconds == pytest.approx(tokens)
    assert figures["train/peak_memory_mib"] > 50
    assert 0.0 < figures["train/wait_seconds"] < seconds


def test_the_peak_of_the_learning_rate_is_the_highest_that_any_step_of_the_training_had(
    make_recipe, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def train_step(model, parts, optimiser, rate, *others, step=loop.train_step):
        rates.append(rate)
        return step(model, parts, optimiser, rate, *others)

    monkeypatch.setattr(loop, "train_step", train_step)
    recipe = make_recipe({"optimiser.warmup_steps": 4, "training.epochs": 2})
    run = start_or_resume(recipe, run_folder, ALONE)
    reported = []
    for _ in range(2):
        train_epoch(run)
        reported.append((run.state.losses["train/peak_learning_rate"], run.state.losses["train/learning_rate"]))
        if len(reported) == 1:
            loop.save(run)
            run = start_or_resume(recipe, run_folder, ALONE)  # a peak before a resume counts as well
    steps = len(rates) // 2
    assert reported == [(max(rates), rates[steps - 1]), (max(rates), rates[-1])]
    assert max(rates[:steps]) > max(rates[steps:])
    assert max(rates) < recipe.optimiser.learning_rate, "decay goes on beside the steps of warm-up"
