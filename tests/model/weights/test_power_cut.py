"""The power is cut while a training keeps its weights: what it had kept can be loaded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from posix_disk import PosixDisk
from torch import nn

from model.recipe.files import named_recipe
from model.strict import make_folders
from model.weights.checkpoint import save_checkpoint
from model.weights.checkpoint_files import CHECKPOINTS, WEIGHTS, initial_position, latest_checkpoint
from model.weights.chosen import Candidate, keep_candidate, list_candidates

TINY = named_recipe("tiny", "/speech")
EPOCHS = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PosixDisk]:
    (tmp_path / "disk").mkdir()
    disk = PosixDisk(tmp_path / "disk")
    yield disk
    disk.close()


def train(folder: Path, kept: list[int]) -> None:
    """The checkpoint of each epoch, then its candidate; an epoch is noted once both are kept."""
    model = nn.Linear(4, 4)
    optimiser = torch.optim.AdamW(model.parameters())
    make_folders(folder)
    for epoch in range(1, EPOCHS + 1):
        position = replace(initial_position(TINY), epoch=epoch, step=10 * epoch)
        path = save_checkpoint(folder / CHECKPOINTS, model, optimiser, position)
        keep_candidate(folder, path / WEIGHTS, Candidate(epoch, {"dev/wer": 50.0 / epoch}), TINY.training)
        kept.append(epoch)


def test_no_power_cut_between_two_changes_of_the_disk_loses_weights_that_were_kept(
    disk: PosixDisk, tmp_path: Path
) -> None:
    kept: list[int] = []
    left: list[tuple[Path, int]] = []
    chance = random.Random(7)

    def cut() -> None:
        for state in range(2):
            folder = tmp_path / f"left-{len(left)}"
            disk.restore(folder, chance if state else None)
            left.append((folder / "runs" / "run", kept[-1] if kept else 0))

    with disk.follow(cut):
        train(disk.root / "runs" / "run", kept)
        cut()
    print(f"{len(left)} states of the disk")
    for folder, epoch in left:
        latest = latest_checkpoint(folder / CHECKPOINTS)
        assert (0 if latest is None else int(latest.name.removeprefix("epoch-"))) >= epoch
        if epoch:
            assert max(candidate.epoch for candidate in list_candidates(folder)) >= epoch
