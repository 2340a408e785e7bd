"""What a row of the GPU's tables needs: a stopwatch, operations counted, and the most that a GPU can do."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# TFLOP/s of dense products by the vendor's data sheets ("NVIDIA H100 Tensor Core GPU", "NVIDIA H200 Tensor Core GPU",
# "NVIDIA A100 Tensor Core GPU"; their larger figures are with sparsity), by a part of the name that CUDA gives. The
# first name that fits counts.
PEAKS = {
    "H100 PCIe": {"bf16": 756.0, "tf32": 378.0, "fp32": 51.0},
    "H100": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "H200": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "A100": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
}


@dataclass(frozen=True)
class Timing:
    """Medians of the rounds: seconds until the work was done, and until the host had handed it over."""

    seconds: float
    host_seconds: float
    peak_bytes: int


def peak_flops(name: str, precision: str) -> float | None:
    """FLOP/s of a GPU by its name, or None where the table lacks it."""
    found = next((peaks for part, peaks in PEAKS.items() if part in name), None)
    return None if found is None else found[precision] * 1e12


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(work: Callable[[], Any], device: torch.device, rounds: int, warm_up: int = 2) -> Timing:
    """Time `rounds` runs of the work after some that warm up."""
    for _ in range(warm_up):
        work()
    wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, host_seconds = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        host_seconds.append(time.perf_counter() - began)
        wait(device)
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Timing(statistics.median(seconds), statistics.median(host_seconds), peak)


def _convolution_backward_flop(gradient: Any, _: Any, weight: Any, *__: Any, **___: Any) -> int:
    """As much for the weights as for the input; the counter's own figure is wrong by a factor of the groups."""
    return 4 * math.prod(weight) * gradient[0] * math.prod(gradient[2:])


def count_flop(work: Callable[[], Any]) -> float:
    """Floating-point operations of the work's products and convolutions."""
    own = {torch.ops.aten.convolution_backward: _convolution_backward_flop}
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        work()
    return counter.get_total_flops()


def format_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under its title."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join([f"## {title}", "", *("| " + " | ".join(cells) + " |" for cells in lines), ""])
