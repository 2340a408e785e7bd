"""What tests of trainings share: the context of a single process, a run's weights, metrics that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.runtime.distributed import DistributedContext
from model.weights import checkpoint

ALONE = DistributedContext(0, 1, torch.device("cpu"))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Weights and moments of the last checkpoint of a run's folder."""
    latest = checkpoint.latest_checkpoint(folder / "checkpoints")
    assert latest is not None
    return load_file(latest / "model.safetensors") | load_file(latest / "optimiser.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    """The last checkpoints of both runs are equal bit for bit."""
    ours, theirs = read_weights(one), read_weights(other)
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def without_clock(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that do not depend on how fast the machine is."""
    return {name: value for name, value in metrics.items() if not name.endswith("/seconds")}
