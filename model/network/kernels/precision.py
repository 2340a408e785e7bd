"""Training in bf16: where it pays, and autocast for functions of our own, which it does not know."""

from __future__ import annotations

import torch
from torch import Tensor


def in_asked_precision(function: type[torch.autograd.Function], *inputs: Tensor) -> Tensor:
    """The function of the inputs on a CPU, all in the precision that autocast asks for, else in the last one's own."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs[-1].dtype
    with torch.autocast("cpu", enabled=False):
        return function.apply(*(one.to(dtype) for one in inputs))


def has_bf16_units(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there; without units for it, a CPU is hundreds of times slower."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
