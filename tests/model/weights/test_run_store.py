"""What a run's folder and an object store promise alike: checkpoints, candidates and chosen weights, whole or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stored_runs import Place, position, save, trained
from training_runs import StoppedError

from model.api import load_run
from model.errors import UserError
from model.recipe.recipe import Recipe
from model.recipe.training import TrainingConfig
from model.training.loop import train
from model.weights.checkpoint import load_optimiser, load_weights
from model.weights.checkpoint_files import CHECKPOINTS, EpochPart, load_position
from model.weights.chosen import (
    CANDIDATES,
    STOPPED,
    Candidate,
    Chosen,
    choose_candidates,
    find_run_weights,
    keep_candidate,
    link_chosen,
    list_candidates,
    read_chosen,
    read_tokens_per_second,
)
from model.weights.chosen_weights import average_candidates, save_chosen
from model.weights.ended_run import keep_last_weights
from model.weights.import_export import export_published
from model.weights.run_checkpoints import find_run_checkpoint, mark_run_reported, save_run_checkpoint
from model.weights.run_store import end_training, local_folder

CHOICE = Chosen("best", (2,), 3, 30, "hash", 4.5, {"dev/wer": 20.0})


def found_epoch(place: Place) -> int | None:
    """The epoch that another machine continues from."""
    place.move()
    path, _ = find_run_checkpoint(place.folder)
    return None if path is None else json.loads((path / "state.json").read_text())["epoch"]


def test_another_machine_finds_the_weights_the_moments_and_the_mark_that_were_written(place: Place) -> None:
    save(place, 1, 2)
    place.move()
    path, is_reported = find_run_checkpoint(place.folder)
    assert path is not None
    assert not is_reported
    model, optimiser = trained(0)
    load_weights(path, model)
    load_optimiser(path, model, optimiser)
    expected, expected_optimiser = trained(2)
    assert torch.equal(model.weight, expected.weight)
    states = (next(iter(each.state.values())) for each in (optimiser, expected_optimiser))
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    mark_run_reported(place.folder, 2)
    place.move()
    assert find_run_checkpoint(place.folder)[1]


def test_the_last_two_checkpoints_are_kept(place: Place) -> None:
    kept = []
    for epoch in range(1, 5):
        save(place, epoch)
        kept.append(place.names(CHECKPOINTS))
    assert kept == [
        ["epoch-0001"],
        ["epoch-0001", "epoch-0002"],
        ["epoch-0002", "epoch-0003"],
        ["epoch-0003", "epoch-0004"],
    ]


def test_a_checkpoint_within_an_epoch_is_found_elsewhere_as_one_of_a_reported_epoch(place: Place) -> None:
    save(place, 1, 2)
    mark_run_reported(place.folder, 2)
    part = EpochPart(7, 1, 0, 0.1, 0.2, [[1.5, 0.1 + 0.2], [2.5, float("inf")]])
    save_run_checkpoint(place.folder, *trained(0), replace(position(2), part=part))
    assert place.names(CHECKPOINTS) == ["epoch-0002", "epoch-0002-step-00000007"]
    place.move()
    path, is_reported = find_run_checkpoint(place.folder)
    assert path is not None
    assert (path.name, is_reported) == ("epoch-0002-step-00000007", True)
    recipe: Any = SimpleNamespace(hash="hash")
    assert load_position(path, recipe) == replace(position(2), part=part)
    save(place, 3)
    assert place.names(CHECKPOINTS) == ["epoch-0002-step-00000007", "epoch-0003"]
    with pytest.raises(UserError, match="has trained epoch 2 and 7 steps of the next: another process"):
        save_run_checkpoint(place.folder, *trained(0), replace(position(2), part=part))


@pytest.mark.parametrize(
    ("file", "tear"),
    [
        ("model.safetensors", lambda content: content[:-1]),
        ("optimiser.safetensors", lambda content: None),
        ("state.json", lambda content: content[:-1]),
    ],
    ids=["cut", "missing", "position"],
)
def test_a_torn_checkpoint_is_passed_over_and_written_again(
    place: Place, file: str, tear: Callable[[bytes], bytes | None]
) -> None:
    save(place, 1, 2)
    name = f"{CHECKPOINTS}/epoch-0002/{file}"
    place.replace(name, tear(place.read(name)))
    assert found_epoch(place) == 1
    save(place, 2)
    assert found_epoch(place) == 2


def test_a_training_whose_only_checkpoint_is_torn_starts_at_its_beginning(place: Place) -> None:
    save(place, 1)
    place.replace(f"{CHECKPOINTS}/epoch-0001/state.json", None)
    assert found_epoch(place) is None


def test_a_process_that_was_replaced_does_not_remove_what_its_successor_has_trained(place: Place) -> None:
    save(place, 1, 2, 3)
    with pytest.raises(UserError, match="has epoch 3, but this process has trained epoch 2: another process"):
        save(place, 2)
    assert place.names(CHECKPOINTS) == ["epoch-0002", "epoch-0003"]


def test_candidates_are_those_that_would_be_chosen_and_their_mean_is_the_same_on_another_machine(place: Place) -> None:
    rule = TrainingConfig(choose="average_best", average=2)
    for epoch, wer in ((1, 40.0), (2, 10.0), (3, 30.0), (4, 20.0)):
        save(place, epoch)
        weights = local_folder(place.folder) / CHECKPOINTS / f"epoch-{epoch:04d}" / "model.safetensors"
        keep_candidate(place.folder, weights, Candidate(epoch, {"dev/wer": wer}), rule)
    place.move()
    find_run_checkpoint(place.folder)
    assert place.names(CANDIDATES) == ["epoch-0002", "epoch-0004"]
    assert [candidate.epoch for candidate in list_candidates(place.folder)] == [2, 4]
    candidates = choose_candidates(place.folder, rule)
    place.move()  # another rank's machine
    mean = average_candidates(place.folder, candidates)["weight"]
    assert torch.allclose(mean, (trained(2)[0].weight + trained(4)[0].weight) / 2)


def test_chosen_weights_are_what_a_run_is_loaded_from_and_nothing_else_is_left(place: Place) -> None:
    save(place, 1, 2)
    assert read_chosen(place.folder) is None
    save_chosen(place.folder, trained(7)[0].state_dict(), CHOICE)
    keep_last_weights(place.folder)
    assert place.names(CHECKPOINTS) == place.names(CANDIDATES) == []
    assert read_chosen(place.folder) == CHOICE
    place.move()
    found = find_run_weights(place.folder)
    assert found is not None
    assert torch.equal(load_file(found / "model.safetensors")["weight"], trained(7)[0].weight)
    assert read_tokens_per_second(place.folder, found) == 4.5


def test_of_a_training_that_was_stopped_the_last_weights_are_kept(place: Place) -> None:
    save(place, 1, 2)
    found = find_run_weights(place.folder)
    assert found is not None
    assert found.name == "epoch-0002"
    keep_last_weights(place.folder)
    chosen = read_chosen(place.folder)
    assert chosen is not None
    assert (chosen.rule, chosen.epochs, chosen.tokens_per_second) == (STOPPED, (2,), 3.5)
    assert place.names(CHECKPOINTS) == []
    place.move()
    found = find_run_weights(place.folder)
    assert found is not None
    assert torch.equal(load_file(found / "model.safetensors")["weight"], trained(2)[0].weight)


def test_a_run_that_shares_the_weights_of_another_does_not_remove_them(place: Place, tmp_path: Path) -> None:
    save_chosen(place.folder, trained(7)[0].state_dict(), CHOICE)
    other = tmp_path / "other"
    other.mkdir()
    link_chosen(place.folder, other)
    keep_last_weights(other)
    assert read_chosen(other) == CHOICE
    for folder in (other, place.folder):
        found = find_run_weights(folder)
        assert found is not None
        assert torch.equal(load_file(found / "model.safetensors")["weight"], trained(7)[0].weight)
    end_training(other)


@pytest.mark.slow
def test_a_training_that_continues_on_another_machine_ends_as_one_that_was_not_stopped(
    place: Place, tmp_path: Path, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe({"training.epochs": 3})
    whole: list[dict[str, float]] = []
    train(recipe, tmp_path / "undisturbed", whole.append)

    reports: list[dict[str, float]] = []

    def stop_in_second(metrics: dict[str, float]) -> None:
        if metrics["epoch"] == 2:
            raise StoppedError
        reports.append(metrics)

    with pytest.raises(StoppedError):
        train(recipe, place.folder, stop_in_second)
    place.move()
    train(recipe, place.folder, reports.append)
    figures = [[each[name] for name in ("epoch", "dev/wer", "train/loss")] for each in whole[:-1]]
    assert [[each[name] for name in ("epoch", "dev/wer", "train/loss")] for each in reports[:-1]] == figures
    assert reports[-1]["dev/wer"] == whole[-1]["dev/wer"]
    place.move()
    export_published(place.folder, tmp_path / "export")
    runs = (load_run(folder).model.state_dict() for folder in (place.folder, tmp_path / "undisturbed"))
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in runs), strict=True))
    place.move()
