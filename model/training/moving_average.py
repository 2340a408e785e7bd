"""The exponential moving average of the weights over optimiser steps, kept beside AdamW's moments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

AVERAGE = "ema"  # its key in the optimiser's state of a parameter, and so in checkpoints


@torch.no_grad()
def update_average(optimiser: torch.optim.Optimizer, decay: float, step: int) -> None:
    """Move the average towards the weights after optimiser step `step` (from 1).

    The first steps count less of what was before, (1 + n) / (10 + n), so that the initial weights are soon forgotten.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            state = optimiser.state[parameter]
            if AVERAGE in state:
                state[AVERAGE].lerp_(parameter, 1.0 - decay)
            else:
                state[AVERAGE] = parameter.detach().clone()


def average_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The model's state dict with the average of every parameter that is trained."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return model.state_dict() | {name: optimiser.state[parameter][AVERAGE] for name, parameter in trained.items()}
