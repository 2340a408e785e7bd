"""A network of one's own that runs out of memory on worker 1 of several, later than the memory probe looks."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from toy_model import Toy

from model.recipe.recipe import Recipe

MOST = 2  # utterances that fit
PROBED = 1  # forward passes of training before the first step


class ShortOfMemory(Toy):
    """B utterances, T frames, S states, D width."""

    calls = 0

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if len(features) > MOST and torch.is_grad_enabled():
            self.calls += 1
            if self.calls > PROBED and os.environ.get("RANK") == "1":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().encode(features, lengths)


def make(recipe: Recipe) -> ShortOfMemory:
    """The function that a recipe names."""
    return ShortOfMemory(recipe, 8)
