"""Checkpoints: one folder an epoch, moved into place whole, so a crash leaves the previous one or the new one.

model.safetensors       weights
optimiser.safetensors   AdamW's moments and step counts, named after the parameters
state.json              epoch, optimiser steps and seeds, of which schedule, sampler and random state are functions:
                        every epoch draws its order and its random numbers from the seeds and its own number
reported                there once the epoch's report was made
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.errors import UserError
from model.recipe.recipe import Recipe

CHECKPOINTS = "checkpoints"  # a run's folder of them
REPORTED = "reported"


@dataclass(frozen=True)
class State:
    """Where a training is: epochs and optimiser steps done, and the seeds that order and randomness come from.

    `losses` are the means over the last epoch's steps, so that a report can be made again from the checkpoint.
    """

    epoch: int
    step: int
    seed: int
    sampler_seed: int
    recipe_hash: str
    losses: dict[str, float] = field(default_factory=dict)


def start_state(recipe: Recipe) -> State:
    return State(0, 0, recipe.training.seed, recipe.data.seed, recipe.hash)


def save_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: State) -> Path:
    """Write the checkpoint of `state.epoch` under `folder`, then remove the earlier ones; where it cannot be written,
    as on a full disk, they stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    path, draft = folder / f"epoch-{state.epoch:04d}", folder / f".draft-{os.getpid()}"
    for left in folder.glob(".draft-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        draft.mkdir()
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, draft / "model.safetensors")
        save_file(_moments(model, optimiser), draft / "optimiser.safetensors")
        (draft / "state.json").write_text(json.dumps(asdict(state)))
        shutil.rmtree(path, ignore_errors=True)
        os.replace(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for earlier in sorted(folder.glob("epoch-*")):
        if earlier != path:
            shutil.rmtree(earlier, ignore_errors=True)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint under `folder`."""
    return max(folder.glob("epoch-*"), default=None)


def mark_reported(folder: Path) -> None:
    """Note that the newest checkpoint's epoch was reported."""
    latest = latest_checkpoint(folder)
    assert latest is not None
    (latest / REPORTED).touch()


def is_reported(folder: Path) -> bool:
    """Whether the newest checkpoint's epoch was reported."""
    latest = latest_checkpoint(folder)
    return latest is not None and (latest / REPORTED).is_file()


def load_state(path: Path, recipe: Recipe) -> State:
    """The state of a checkpoint; one of another recipe is a UserError."""
    state = State(**json.loads((path / "state.json").read_text()))
    if state.recipe_hash != recipe.hash:
        raise UserError(
            f"{path}: was trained with recipe {state.recipe_hash}, but this is {recipe.hash}; "
            "give another folder, or the recipe that is in this one"
        )
    return state


def load_weights(path: Path, model: nn.Module) -> None:
    """The weights of a checkpoint; a file that does not hold exactly the model's tensors is a UserError."""
    try:
        model.load_state_dict(load_file(path / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path / 'model.safetensors'}: does not fit the recipe ({' '.join(str(error).split())})"
        ) from None


def load_optimiser(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """AdamW's moments and step counts."""
    moments = load_file(path / "optimiser.safetensors")
    for name, parameter in model.named_parameters():
        kept = {key: moments.get(f"{name}/{key}") for key in ("step", "exp_avg", "exp_avg_sq")}
        if parameter.requires_grad:
            optimiser.state[parameter] = {
                key: value.to(parameter.device) for key, value in kept.items() if value is not None
            }


def _moments(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }
