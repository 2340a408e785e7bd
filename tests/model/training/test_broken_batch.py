from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from training_runs import ALONE, plan_ids, poison

from model.data import batches
from model.data.batches import Batch
from model.errors import NonFiniteLossError, UserError
from model.recipe.recipe import Recipe
from model.training import loop
from model.training.broken_batch import read_broken_batch
from model.training.loop import train

NONE_SKIPPED = {"training.skips_share": 0.0}
MASKS = {"augmentation.time_masks": 1, "augmentation.frequency_masks": 1}


def plan_of(recipe: Recipe, folder: Path, epoch: int) -> list[list[str]]:
    return plan_ids(loop.start_or_resume(recipe, folder, ALONE).training_set, epoch)


def break_step(monkeypatch: pytest.MonkeyPatch, number: int, error: Exception) -> list[list[Batch]]:
    """Let the run's step `number` (from 1) raise the error; the parts that all steps were given."""
    given: list[list[Batch]] = []

    def train_step(model, parts, *others, step=loop.train_step):
        given.append(parts)
        if len(given) == number:
            raise error
        return step(model, parts, *others)

    monkeypatch.setattr(loop, "train_step", train_step)
    return given


def test_an_exception_in_training_is_raised_and_its_batch_written_as_the_model_was_given_it(
    make_recipe, run_folder: Path, monkeypatch
) -> None:
    recipe = make_recipe(MASKS | {"optimiser.accumulate": 2})
    given = break_step(monkeypatch, 3, ValueError("the planted error\nof two lines"))
    with pytest.raises(ValueError, match=r"the planted error\nof two lines"):
        train(recipe, run_folder, lambda _: None)
    parts = read_broken_batch(run_folder / "broken-batch-0.json")
    assert len(parts) == len(given[2]) == 2
    for read, part in zip(parts, given[2], strict=True):
        assert (read.ids, read.counts) == (part.ids, part.counts)
        assert all(torch.equal(getattr(read, key), getattr(part, key)) for key in ("features", "lengths", "labels"))
    description = json.loads((run_folder / "broken-batch-0.json").read_text())
    assert description["error"] == "ValueError: the planted error of two lines"
    assert [description[key] for key in ("epoch", "step", "global_step", "rank")] == [1, 3, 3, 0]
    assert description["recipe"] == recipe.hash
    assert (
        sorted(description["batch"]) == sorted(plan_of(recipe, run_folder, 0)[2]) == sorted(parts[0].ids + parts[1].ids)
    )
    assert description["parts"][0]["sets"] == ["train"] * len(parts[0].ids)
    assert description["parts"][0]["losses"] is None


def test_a_loss_that_is_no_number_names_its_own_step_and_writes_its_own_batch(
    make_recipe, tmp_path: Path, monkeypatch
) -> None:
    recipe = make_recipe(NONE_SKIPPED)
    plan = plan_of(recipe, tmp_path / "plan", 1)
    poison(monkeypatch, plan[1][:1], epoch=2)
    message = r"^loss nan, gradient norm nan at epoch 2, step 2: 1 of the \d+ batches of the epoch were skipped "
    message += r"\(training.skips_share 0\); its batch is in broken-batch-0.json$"
    with pytest.raises(NonFiniteLossError, match=message):
        train(recipe, tmp_path / "run", lambda _: None)
    (part,) = read_broken_batch(tmp_path / "run" / "broken-batch-0.json")
    assert part.ids == plan[1]
    assert part.features[0, : int(part.lengths[0])].isnan().all()
    description = json.loads((tmp_path / "run" / "broken-batch-0.json").read_text())
    assert description["global_step"] == len(plan_of(recipe, tmp_path / "plan", 0)) + 2
    assert description["parts"][0]["losses"]["total"] == "nan"
    assert description["error"].startswith("NonFiniteLossError: loss nan, gradient norm nan at epoch 2, step 2")


def test_the_last_step_of_an_epoch_is_checked_and_written_too(make_recipe, tmp_path: Path, monkeypatch) -> None:
    recipe = make_recipe(NONE_SKIPPED)
    plan = plan_of(recipe, tmp_path / "plan", 0)
    poison(monkeypatch, plan[-1][-1:], epoch=1)
    with pytest.raises(NonFiniteLossError, match=f"at epoch 1, step {len(plan)}: 1 of the {len(plan)} batches"):
        train(recipe, tmp_path / "run", lambda _: None)
    assert read_broken_batch(tmp_path / "run" / "broken-batch-0.json")[0].ids == plan[-1]


def test_a_batch_that_cannot_be_written_never_hides_the_error(make_recipe, run_folder, monkeypatch, caplog) -> None:
    (run_folder / "broken-batch-0.safetensors").mkdir(parents=True)  # no file can be moved onto a folder
    recipe = make_recipe(NONE_SKIPPED)
    poison(monkeypatch, plan_of(recipe, run_folder, 0)[0][:1], epoch=1)
    with (
        caplog.at_level(logging.WARNING, "model"),
        pytest.raises(NonFiniteLossError, match=r"at epoch 1, step 1: 1 of the .* \(training.skips_share 0\)$"),
    ):
        train(recipe, run_folder, lambda _: None)
    assert "the broken batch could not be written: " in caplog.text
    assert not (run_folder / "broken-batch-0.json").exists()


def test_a_batch_whose_features_cannot_be_read_is_named_without_them(make_recipe, run_folder, monkeypatch) -> None:
    def unreadable(*_):
        raise OSError("the planted disk error")

    monkeypatch.setattr(batches, "spec_augment", unreadable)
    recipe = make_recipe()
    with pytest.raises(OSError, match="the planted disk error"):
        train(recipe, run_folder, lambda _: None)
    assert read_broken_batch(run_folder / "broken-batch-0.json") == []
    description = json.loads((run_folder / "broken-batch-0.json").read_text())
    assert description["batch"] == plan_of(recipe, run_folder, 0)[0]


def test_an_error_in_a_report_writes_no_batch(make_recipe, run_folder: Path) -> None:
    def stop(_: dict[str, float]) -> None:
        raise RuntimeError("no tracker")

    with pytest.raises(RuntimeError, match="no tracker"):
        train(make_recipe({"training.epochs": 1}), run_folder, stop)
    assert not list(run_folder.glob("broken-batch*"))


def test_a_file_that_holds_no_batch_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"broken-batch-0.json: holds no broken batch \(.*No such file"):
        read_broken_batch(tmp_path / "broken-batch-0.json")
