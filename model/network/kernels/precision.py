"""Precision of products: bf16 on this machine, autocast for our own autograd functions, TF32 on GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


def apply_in_autocast_dtype(function: type[torch.autograd.Function], *inputs: Tensor) -> Tensor:
    """Apply the function to inputs on a CPU, cast to autocast's dtype where autocast is on, else to the last input's.

    torch's autocast knows its own operators alone, so without this a function would get inputs of two precisions.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs[-1].dtype
    with torch.autocast("cpu", enabled=False):
        return function.apply(*(tensor.to(dtype) for tensor in inputs))


@contextlib.contextmanager
def product_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Compute matrix products and convolutions in fp32 or tf32, forward and backward; bf16 is autocast's matter.

    On a GPU torch computes convolutions of fp32 in TF32 by itself; here that is so for `tf32` alone. What was set
    before is set again at the end.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def has_bf16_units(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there; without units for it, a CPU is hundreds of times slower."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
