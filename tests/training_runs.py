"""What tests of trainings share: the context of a single process, a run's weights, broken utterances, and metrics that
can be compared."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.data import batches
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.training.loop import train
from model.weights import checkpoint_files

ALONE = DistributedContext(0, 1, torch.device("cpu"))


class StoppedError(Exception):
    """A training was stopped in the middle of a report."""


def train_whole_and_first_epoch(recipe: Recipe, folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The reports of a training to its end in `whole`, and the one of a training in `parts` that stops within it."""
    whole: list[dict[str, float]] = []
    train(recipe, folder / "whole", whole.append)
    parts: list[dict[str, float]] = []

    def stop(metrics: dict[str, float]) -> None:
        parts.append(metrics)
        raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe, folder / "parts", stop)
    return whole, parts


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Weights and moments of the last checkpoint of a run's folder."""
    latest = checkpoint_files.latest_checkpoint(folder / "checkpoints")
    assert latest is not None
    return load_file(latest / "model.safetensors") | load_file(latest / "optimiser.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    """The last checkpoints of both runs are equal bit for bit."""
    assert_equal(read_weights(one), read_weights(other))


def read_chosen_weights(folder: Path) -> dict[str, Tensor]:
    """The weights that a run chose."""
    return load_file(folder / "chosen" / "model.safetensors")


def assert_equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """The tensors are equal bit for bit."""
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def plan_ids(training_set: batches.TrainingSet, data_pass: int = 0) -> list[list[str]]:
    """The batches of a pass over the data as ids of utterances."""
    return [[training_set.utterances.id(row) for row in rows] for rows in training_set.plan_pass(data_pass)]


def poison(monkeypatch: pytest.MonkeyPatch, utterances: Collection[str], epoch: int) -> None:
    """Make the features of utterances NaN in the epoch (from 1) of a recipe of seed 0."""
    broken = {f"0/{epoch - 1}/{utterance}" for utterance in utterances}

    def spec_augment(features, settings, key, augment=batches.spec_augment):
        augmented = augment(features, settings, key)
        return augmented * math.nan if key in broken else augmented

    monkeypatch.setattr(batches, "spec_augment", spec_augment)


def without_clock(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that depend neither on how fast the machine is nor on what else its memory holds."""
    machine = ("/seconds", "_seconds", "_per_second", "/peak_memory_mib", "/rtf", "/rtf_final")
    return {name: value for name, value in metrics.items() if not name.endswith(machine)}
