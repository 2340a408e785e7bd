"""bf16 on this machine: whether it is fast, and autocast for our own autograd functions."""

from __future__ import annotations

import torch
from torch import Tensor


def apply_in_autocast_dtype(function: type[torch.autograd.Function], *inputs: Tensor) -> Tensor:
    """Apply the function to inputs on a CPU, cast to autocast's dtype where autocast is on, else to the last input's.

    torch's autocast knows its own operators alone, so without this a function would get inputs of two precisions.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs[-1].dtype
    with torch.autocast("cpu", enabled=False):
        return function.apply(*(tensor.to(dtype) for tensor in inputs))


def has_bf16_units(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there; without units for it, a CPU is hundreds of times slower."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
