"""A batch whose loss is not finite is passed over; too many of them end training."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from training_runs import ALONE, assert_equal, plan_ids, poison, without_clock

from model.data.epoch_plan import DataPosition, PlannedBatch
from model.errors import NonFiniteLossError
from model.network.losses import Losses
from model.recipe.recipe import Recipe
from model.recipe.training import TrainingConfig
from model.runtime.distributed import current_context
from model.training import optimiser
from model.training.broken_batch import BrokenBatchWriter, TrainingStep, read_broken_batch
from model.training.loop import train, train_epoch
from model.training.run import start_or_resume
from model.training.skipped_steps import SkippedSteps

NO_DROPOUT = {"encoder.dropout": 0.0, "decoder.dropout": 0.0}
# Every step is the same wherever it stands in the epoch.
CONSTANT = NO_DROPOUT | {"optimiser.warmup": 0.0, "optimiser.warmup_steps": None, "optimiser.decay": "none"}
PATIENT = {"training.skips_share": 0.5}


def count_steps(folder: Path, settings: TrainingConfig, taken: list[bool]) -> SkippedSteps:
    """An epoch of steps of which some are not taken."""
    utterances: Any = SimpleNamespace(label_counts=np.zeros(0))
    writer = BrokenBatchWriter(folder, 0, "hash", SimpleNamespace(utterances=utterances))  # type: ignore[arg-type]
    skipped = SkippedSteps(settings, writer, len(taken))
    for number, is_taken in enumerate(taken, start=1):
        fault = None if is_taken else "loss inf, gradient norm nan"
        result: Any = SimpleNamespace(find_fault=lambda fault=fault: fault, losses=[])
        skipped.check(TrainingStep(3, number, number, PlannedBatch(2, np.zeros(0, dtype=int)), result=result))
    return skipped


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.floats(0.0, 1.0))
def test_training_ends_when_and_only_when_a_limit_is_passed(
    tmp_path_factory: pytest.TempPathFactory, taken: list[bool], in_a_row: int, share: float
) -> None:
    folder = tmp_path_factory.getbasetemp()
    settings = TrainingConfig(skips_in_a_row=in_a_row, skips_share=share)
    text = "".join("." if is_taken else "x" for is_taken in taken)
    allowed = max(1.0, share * len(text)) if share else 0.0
    if "x" * in_a_row in text or text.count("x") > allowed or (text and set(text) == {"x"}):
        with pytest.raises(NonFiniteLossError):
            count_steps(folder, settings, taken)
    else:
        assert count_steps(folder, settings, taken).count == text.count("x")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x.xx.xxx", "step 8: 3 batches in a row were skipped (training.skips_in_a_row 3)"),
        ("x.xx.xx.x.", "step 9: 6 of the 10 batches of the epoch were skipped (training.skips_share 0.5)"),
    ],
)
def test_the_error_names_the_figures_the_step_the_limit_and_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str, message: str
) -> None:
    settings = TrainingConfig(skips_in_a_row=3, skips_share=0.5 if len(pattern) == 10 else 1.0)
    whole = f"loss inf, gradient norm nan at epoch 3, {message}; its batch is in broken-batch-0.json"
    with (
        caplog.at_level(logging.WARNING, "model"),
        pytest.raises(NonFiniteLossError, match=f"^{re.escape(whole)}$"),
    ):
        count_steps(tmp_path, settings, [mark == "." for mark in pattern])
    logged = [record.message for record in caplog.records]
    assert logged[0] == "a batch was skipped: loss inf, gradient norm nan at epoch 3, step 1"
    assert len(logged) == pattern[: int(message.split(":")[0].split()[1])].count("x")


def test_a_skipped_batch_is_counted_and_leaves_the_weights_that_training_without_it_has(
    make_recipe, tmp_path: Path, monkeypatch
) -> None:
    recipe = make_recipe(CONSTANT | PATIENT)
    run = start_or_resume(recipe, tmp_path / "skipping", ALONE)
    plan = run.training_set.plan_pass(0)
    poison(monkeypatch, plan_ids(run.training_set)[2][:1], epoch=1)
    train_epoch(run)
    monkeypatch.undo()
    without = start_or_resume(recipe, tmp_path / "without", ALONE)
    others = [PlannedBatch(0, rows) for rows in (*plan[:2], *plan[3:])]
    monkeypatch.setattr(without.training_set, "plan_epoch", lambda start, steps: (others, DataPosition(1)))
    train_epoch(without)
    assert_equal(run.model.state_dict(), without.model.state_dict())
    losses, expected = without_clock(run.state.losses), without_clock(without.state.losses)
    assert losses.pop("train/skipped") == 1.0 > expected.pop("train/skipped")
    for figures in (losses, expected):
        del figures["train/frames_per_step"]  # of all batches
    assert losses == pytest.approx(expected), "means are over the steps that were taken"
    train_epoch(run)
    assert run.state.losses["train/skipped"] == 0.0, "each epoch counts its own"
    assert all(value.isfinite().all() for value in run.model.state_dict().values())


def test_batches_skipped_in_a_row_end_training_with_the_last_of_them_written(
    make_recipe, tmp_path: Path, monkeypatch
) -> None:
    recipe = make_recipe({"training.skips_in_a_row": 2, "training.skips_share": 1.0})
    plan = plan_ids(start_or_resume(recipe, tmp_path / "plan", ALONE).training_set)
    poison(monkeypatch, [plan[0][0], plan[2][0], plan[3][0]], epoch=1)
    message = r"^loss nan, gradient norm nan at epoch 1, step 4: 2 batches in a row were skipped "
    message += r"\(training.skips_in_a_row 2\); its batch is in broken-batch-0.json$"
    with pytest.raises(NonFiniteLossError, match=message):
        train(recipe, tmp_path / "run", lambda _: None)
    assert read_broken_batch(tmp_path / "run" / "broken-batch-0.json")[0].ids == plan[3]
    assert not (tmp_path / "run" / "checkpoints").exists()


def make_loss_infinite(monkeypatch: pytest.MonkeyPatch, utterance: str) -> None:
    """Let the loss of the utterance's batch be infinite, and its gradients as they were."""

    def accumulate(model, part, *others, accumulate=optimiser.accumulate_gradients) -> Losses:
        losses = accumulate(model, part, *others)
        return replace(losses, total=losses.total + math.inf) if utterance in part.ids else losses

    monkeypatch.setattr(optimiser, "accumulate_gradients", accumulate)


def _train_with_one_broken(
    rank: int, recipe: Recipe, folder: Path, utterance: str, what: str
) -> tuple[list[bool], float, dict[str, Tensor]]:
    """On which steps this rank's own loss is finite, how many were skipped, and the weights after the epoch."""
    finite: list[bool] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        if what == "loss":
            make_loss_infinite(monkeypatch, utterance)
        else:
            poison(monkeypatch, [utterance], epoch=1)

        def check(self: SkippedSteps, step: TrainingStep, check=SkippedSteps.check) -> None:
            assert step.result is not None
            finite.append(all(bool(losses.total.isfinite()) for losses in step.result.losses))
            check(self, step)

        monkeypatch.setattr(SkippedSteps, "check", check)
        run = start_or_resume(recipe, folder, current_context())
        train_epoch(run)
    return finite, run.state.losses["train/skipped"], run.model.state_dict()


@pytest.mark.parametrize("what", ["features", "loss"])
def test_two_workers_skip_a_batch_together_where_one_alone_has_a_broken_loss(
    make_recipe, tmp_path: Path, worker_pair, what: str
) -> None:
    recipe = make_recipe(PATIENT)
    plan = plan_ids(start_or_resume(recipe, tmp_path / "plan", ALONE).training_set)
    first, second = worker_pair.run(_train_with_one_broken, recipe, tmp_path / "two", plan[1][0], what)
    assert [first[0].index(False), first[0].count(False), second[0].count(False)] == [1, 1, 0]
    assert first[1] == second[1] == 1.0
    assert_equal(first[2], second[2])
    assert all(torch.isfinite(value).all() for value in first[2].values())
