"""Linear layers over the few rows that the search of one utterance has, by the library that reads weights faster.

With few rows the time goes into reading the weight. On AMD's processors Intel's MKL, which torch takes for fp32, needs
1.3 to 2.5 times as long for that as oneDNN does. With many rows both are equally fast, and oneDNN would prepare itself
for every new number of rows, which takes a millisecond and a mebibyte each.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_ROWS = 8  # with 16 it is slower for some weights


class Linear(nn.Linear):
    """`nn.Linear`, by the faster library where no gradients are computed."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        # Graphs hold torch's own operators, and a compiler must not look into what follows.
        if not torch.compiler.is_compiling() and _has_few_rows(x) and _is_left_to_us(x):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


def _has_few_rows(x: Tensor) -> bool:
    return 0 < x.numel() <= MOST_ROWS * x.shape[-1]


def _is_left_to_us(x: Tensor) -> bool:
    """Whether it is fp32 on a CPU whose products are faster so, for no gradient and no graph of torch's operators."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and is_onednn_faster()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
    )


@functools.cache
def is_onednn_faster() -> bool:
    """Whether this is an AMD processor: on others it was not measured."""
    try:
        return torch.backends.mkldnn.is_available() and "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
