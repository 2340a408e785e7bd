"""Checkpoints are written, and their tensors loaded. `checkpoint_files` says what they are."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.errors import UserError
from model.strict import make_folders, sync_file, sync_folder
from model.weights.checkpoint_files import (
    OPTIMISER,
    POSITION,
    WEIGHTS,
    TrainingPosition,
    checkpoint_path,
    latest_whole,
    refuse_later_position,
    remove_outdated,
)


def save_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, position: TrainingPosition
) -> Path:
    """Write the checkpoint of a position under `folder`; returns its folder, which then survives a power cut.

    The newest whole checkpoint before it stays. All others are removed first, so that the disk never holds more than
    two. Where the new one cannot be written, as on a full disk, an OSError or SafetensorError is raised, and the one
    before it is still there. A UserError, and nothing is changed, where the folder holds a whole checkpoint of a later
    position: another process has continued this run.
    """
    make_folders(folder)
    path, draft = checkpoint_path(folder, position.epoch, position.steps_of_epoch), folder / f".draft-{os.getpid()}"
    if (latest := latest_whole(folder)) is not None:
        refuse_later_position(folder, latest, path)
    remove_outdated(folder, path)
    try:
        draft.mkdir()
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, draft / WEIGHTS)
        save_file(_moments(model, optimiser), draft / OPTIMISER)
        (draft / POSITION).write_text(json.dumps(asdict(position)))
        for name in (WEIGHTS, OPTIMISER, POSITION):
            sync_file(draft / name)
        sync_folder(draft)
        shutil.rmtree(path, ignore_errors=True)  # of the same position: a folder can be moved only onto an empty one
        os.replace(draft, path)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return path


def load_weights(path: Path, model: nn.Module) -> None:
    """The weights of a checkpoint into a model; a file that does not hold exactly its tensors is a UserError."""
    try:
        model.load_state_dict(load_file(path / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path / WEIGHTS}: does not fit the recipe ({' '.join(str(error).split())})") from None


def load_optimiser(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """AdamW's moments and step counts of every parameter that is trained, into the optimiser."""
    moments = load_file(path / OPTIMISER)
    for name, parameter in model.named_parameters():
        saved = {key: moments.get(f"{name}/{key}") for key in ("step", "exp_avg", "exp_avg_sq", "ema")}
        if parameter.requires_grad:
            optimiser.state[parameter] = {
                key: value.to(parameter.device) for key, value in saved.items() if value is not None
            }


def _moments(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }
