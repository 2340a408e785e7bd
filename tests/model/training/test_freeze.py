"""Frozen parts come out of a training bit for bit as they went in, and the others do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.workers import Workers, current_workers
from model.training.loop import Run, save, start, train_epoch
from model.training.optimiser import part_of
from model.weights import checkpoint

ALONE = Workers(0, 1, torch.device("cpu"))
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


def copied(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.model.named_parameters()}


def moved_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {part_of(name) for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("parts", RULES, ids="+".join)
def test_what_is_frozen_stays_bit_for_bit_and_has_no_optimiser_state(
    make_recipe, parts: list[str], tmp_path: Path
) -> None:
    recipe = make_recipe(AUXILIARY | {"training.freeze": parts})
    run = start(recipe, tmp_path, ALONE)
    before = copied(run)
    train_epoch(run)
    assert moved_parts(before, copied(run)) == PARTS - set(parts)
    trained = {name for name, one in run.model.named_parameters() if one.requires_grad}
    assert {part_of(name) for name in trained} == PARTS - set(parts)
    save(run)
    latest = checkpoint.latest_checkpoint(run.checkpoints)
    assert latest is not None
    assert {name.rpartition("/")[0] for name in load_file(latest / "optimiser.safetensors")} == trained
    resumed = start(recipe, tmp_path, ALONE)
    assert set(resumed.optimiser.state) == {one for one in resumed.model.parameters() if one.requires_grad}


def test_every_parameter_belongs_to_one_part(make_recipe, tmp_path: Path) -> None:
    names = copied(start(make_recipe(AUXILIARY), tmp_path, ALONE))
    assert {part_of(name) for name in names} == PARTS
    assert {name for name in names if part_of(name) == "classifiers"} == {
        "decoder.auxiliary.0.weight",
        "decoder.final.weight",
    }


def _on_two_workers(rank: int, world: int, recipe: Recipe, place: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=world)
    run = start(recipe, Path(place) / "run", current_workers())
    before = copied(run)
    train_epoch(run)
    if rank == 0:
        torch.save({"before": before, "after": copied(run)}, f"{place}/two.pt")
    torch.distributed.destroy_process_group()


def test_frozen_parts_stay_on_two_workers_too(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(AUXILIARY | {"training.freeze": ["encoder", "decoder"]})
    multiprocessing.spawn(_on_two_workers, (2, recipe, str(tmp_path)), nprocs=2)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert moved_parts(two["before"], two["after"]) == {"classifiers", "ctc"}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (sorted(PARTS), "freeze names every part, which leaves nothing to train; take one out"),
        (["ctc", "ctc"], "freeze is ['ctc', 'ctc'], but must name each part once"),
        (["encodr"], "'training.freeze.0' is 'encodr'; input should be 'encoder', 'decoder', 'classifiers' or 'ctc'"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make_recipe, parts: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        make_recipe({"training.freeze": parts})
