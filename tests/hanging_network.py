"""A network of one's own that hangs in its second epoch, in a read that never returns, or is stopped there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch.distributed as dist
from hanging_training import read_silent_file
from torch import Tensor
from toy_model import Toy

from model.recipe.recipe import Recipe


class HangingToy(Toy):
    """Hangs on rank HANGS once the run in the folder RUN has a checkpoint; stops its process instead where BY is so."""

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        run, rank = Path(os.environ["RUN"]), dist.get_rank() if dist.is_initialized() else 0
        if self.training and rank == int(os.environ["HANGS"]) and list(run.glob("checkpoints/epoch-*")):
            if os.environ.get("BY") == "SIGSTOP":
                os.kill(os.getpid(), signal.SIGSTOP)
            read_silent_file(run)
        return super().encode(features, lengths)


def make(recipe: Recipe, width: int = 8) -> HangingToy:
    """The function that a recipe names."""
    return HangingToy(recipe, width)
