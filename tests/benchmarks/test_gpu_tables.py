"""The GPU's benchmark, at its smallest and on this processor: all of it runs, and what competes computes the same."""

from __future__ import annotations

import pytest
import torch
from benchmarks.gpu import TINY, print_tables
from benchmarks.gpu_pieces import compare_forms
from benchmarks.gpu_stopwatch import count_flop, peak_flops


def test_all_tables_are_printed_on_a_processor() -> None:
    written: list[str] = []
    print_tables(torch.device("cpu"), TINY, written.append)
    assert [text.splitlines()[0] for text in written[1:]] == [
        *("## Training steps", "## Reading", "## Scoring", "## CTC", "## Attention", "## Decoder"),
    ]
    for text in written[1:]:
        assert "failed" not in text
        header, _, *rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
        assert rows
        assert all(len(row) == len(header) for row in rows)


def test_the_forms_of_attention_that_are_timed_compute_the_same() -> None:
    plain, fused, flexible = compare_forms(2, 37)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flexible, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "bf16"),
    [("NVIDIA H100 80GB HBM3", 989.4e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H200", 989.4e12), ("Tesla T4", None)],
)
def test_the_peak_is_that_of_the_gpu_s_own_name(name: str, bf16: float | None) -> None:
    assert peak_flops(name, "bf16") == bf16


def test_operations_of_a_convolution_and_its_gradients_are_three_times_those_of_its_forward_pass() -> None:
    x, weight = torch.randn(2, 8, 30, requires_grad=True), torch.randn(8, 1, 5, requires_grad=True)

    def forward() -> torch.Tensor:
        return torch.nn.functional.conv1d(x, weight, groups=8)

    assert count_flop(lambda: forward().sum().backward()) == pytest.approx(3 * count_flop(forward))
    assert count_flop(forward) == 2 * 2 * 8 * 26 * 5
