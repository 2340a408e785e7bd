"""The checkpoints of a run, in its folder or in the store that keeps its weights: written, found and marked.

Rank 0 writes; what it has published is whole in the store before any rank goes on.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import nn

from model.weights.checkpoint import save_checkpoint
from model.weights.checkpoint_files import (
    CHECKPOINTS,
    REPORTED,
    TrainingPosition,
    checkpoint_path,
    is_reported,
    is_within_epoch,
    latest_checkpoint,
    mark_reported,
    refuse_later_position,
)
from model.weights.chosen import CANDIDATES
from model.weights.run_store import find_store, local_folder


def save_run_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, position: TrainingPosition
) -> Path:
    """Write the checkpoint of a position of the run in `folder`; its folder on this machine.

    Errors are those of `save_checkpoint`, and a StoreError where the store has not answered for too long.
    """
    store = find_store(folder)
    if store is not None:
        whole = store.folders.list_whole(CHECKPOINTS)
        if whole:
            path = checkpoint_path(folder, position.epoch, position.steps_of_epoch)
            refuse_later_position(store.place.url, Path(whole[-1]), path)
    with contextlib.nullcontext() if store is None else store.writing():
        path = save_checkpoint(local_folder(folder) / CHECKPOINTS, model, optimiser, position)
    if store is not None:
        store.publish(CHECKPOINTS)
    return path


def find_run_checkpoint(folder: Path) -> tuple[Path | None, bool]:
    """The newest whole checkpoint of the run that is trained, on this machine, and whether its epoch was reported.

    With a store this machine then has what the store has, and nothing else.
    """
    store = find_store(folder)
    if store is not None:
        store.restore((CHECKPOINTS, CANDIDATES))
    checkpoints = local_folder(folder) / CHECKPOINTS
    latest = latest_checkpoint(checkpoints)
    if store is None or latest is None:
        return latest, is_reported(checkpoints)
    if is_within_epoch(latest):
        return latest, True
    return latest, store.folders.store.read(f"{CHECKPOINTS}/{latest.name}/{REPORTED}") is not None


def fetch_run_checkpoint(folder: Path, path: Path) -> Path:
    """The checkpoint that rank 0 found at `path`, on this rank's machine."""
    store = find_store(folder)
    return path if store is None else store.fetch(f"{CHECKPOINTS}/{path.name}")


def mark_run_reported(folder: Path, epoch: int) -> None:
    """Record that an epoch of the run was reported."""
    store = find_store(folder)
    path = checkpoint_path(local_folder(folder) / CHECKPOINTS, epoch)
    mark_reported(path.parent, epoch)
    if store is not None:
        store.folders.store.write(f"{CHECKPOINTS}/{path.name}/{REPORTED}", b"")
