"""Frozen parts come out of a training bit for bit as they went in, and the others do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import ALONE

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training.loop import TrainingRun, save, start_or_resume, train_epoch
from model.training.optimiser import find_part
from model.weights import checkpoint_files

PARTS = {"encoder", "decoder", "classifiers", "ctc"}
AUXILIARY = {"loss.auxiliary": {"placement": [2], "weights": [0.4]}, "data.batch_seconds": 60.0}
RULES = [
    ["encoder"],
    ["decoder"],
    ["classifiers"],
    ["ctc"],
    ["encoder", "decoder"],
    ["encoder", "decoder", "ctc"],
    ["decoder", "classifiers", "ctc"],
]


def copy_parameters(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.model.named_parameters()}


def find_moved_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {find_part(name) for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("parts", RULES, ids="+".join)
def test_what_is_frozen_stays_bit_for_bit_and_has_no_optimiser_state(
    make_recipe, parts: list[str], tmp_path: Path
) -> None:
    recipe = make_recipe(AUXILIARY | {"training.freeze": parts})
    run = start_or_resume(recipe, tmp_path, ALONE)
    before = copy_parameters(run)
    train_epoch(run)
    assert find_moved_parts(before, copy_parameters(run)) == PARTS - set(parts)
    trained = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert {find_part(name) for name in trained} == PARTS - set(parts)
    save(run)
    latest = checkpoint_files.latest_checkpoint(run.checkpoints)
    assert latest is not None
    assert {name.rpartition("/")[0] for name in load_file(latest / "optimiser.safetensors")} == trained
    resumed = start_or_resume(recipe, tmp_path, ALONE)
    trained_again = {parameter for parameter in resumed.model.parameters() if parameter.requires_grad}
    assert set(resumed.optimiser.state) == trained_again


def test_every_parameter_belongs_to_one_part(make_recipe, tmp_path: Path) -> None:
    names = copy_parameters(start_or_resume(make_recipe(AUXILIARY), tmp_path, ALONE))
    assert {find_part(name) for name in names} == PARTS
    assert {name for name in names if find_part(name) == "classifiers"} == {
        "decoder.auxiliary.0.weight",
        "decoder.final.weight",
    }


def _train_on_two(rank: int, recipe: Recipe, folder: Path) -> set[str]:
    """The parts that move in an epoch."""
    run = start_or_resume(recipe, folder, current_context())
    before = copy_parameters(run)
    train_epoch(run)
    return find_moved_parts(before, copy_parameters(run))


def test_frozen_parts_stay_on_two_workers_too(make_recipe, tmp_path: Path, worker_pair) -> None:
    recipe = make_recipe(AUXILIARY | {"training.freeze": ["encoder", "decoder"]})
    assert worker_pair.run(_train_on_two, recipe, tmp_path) == [{"classifiers", "ctc"}] * 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (sorted(PARTS), "freeze names every part, which leaves nothing to train; take one out"),
        (["ctc", "ctc"], "freeze is ['ctc', 'ctc'], but must name each part once"),
        (["encodr"], "'training.freeze.0' is 'encodr'; input should be 'encoder', 'decoder', 'classifiers' or 'ctc'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make_recipe, parts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_recipe({"training.freeze": parts})
