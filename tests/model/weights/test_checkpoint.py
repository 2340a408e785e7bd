"""A checkpoint is there whole or not at all, and the one before it stays until then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from model.weights.checkpoint import State, latest_checkpoint, load_optimiser, load_weights, save_checkpoint


def trained(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model of 4 * width * width bytes, and moments of twice as many."""
    model = nn.Linear(width, width, bias=False)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, width)).sum().backward()
    optimiser.step()
    return model, optimiser


def test_on_a_full_disk_the_previous_checkpoint_stays_whole_and_no_draft_is_left(small_disk: Path) -> None:
    model, optimiser = trained(110)  # 145 KiB a checkpoint: there is room for one
    first = save_checkpoint(small_disk, model, optimiser, State(1, 10, 0, 0, "hash"))
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    with pytest.raises((OSError, SafetensorError), match="No space left on device"):
        save_checkpoint(small_disk, *trained(110), State(2, 20, 0, 0, "hash"))
    assert [path.name for path in small_disk.iterdir()] == ["epoch-0001"]
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    load_weights(first, model)
    load_optimiser(first, model, optimiser)


def test_a_draft_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".draft-1").mkdir()
    (tmp_path / ".draft-1" / "model.safetensors").write_bytes(b"half")
    path = save_checkpoint(tmp_path, *trained(4), State(1, 10, 0, 0, "hash"))
    assert list(tmp_path.iterdir()) == [path]
    assert latest_checkpoint(tmp_path) == path
