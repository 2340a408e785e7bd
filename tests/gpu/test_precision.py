"""TF32 is used where a recipe asks for it, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.network.kernels.precision import product_precision
from model.recipe.recipe import Recipe
from model.training.loop import train


def error_of_product(device: torch.device, precision: str) -> float:
    """Relative error of a product with a sum of 4,096 terms, of its gradient, and of a convolution: the largest."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 4096, generator=generator, dtype=torch.double) for _ in range(2))
    x, w = (torch.randn(4, 64, 32, 32, generator=generator, dtype=torch.double) for _ in range(2))
    w = w[:, :, :3, :3].contiguous()
    ours = [tensor.float().to(device) for tensor in (a, b, x, w)]
    ours[0].requires_grad_()
    with product_precision(device, precision):
        product = ours[0] @ ours[1].t()
        product.square().sum().backward()
        convolved = torch.nn.functional.conv2d(ours[2], ours[3])
    assert ours[0].grad is not None
    pairs = (
        (product, a @ b.t()),
        (ours[0].grad, 2 * (a @ b.t()) @ b),
        (convolved, torch.nn.functional.conv2d(x, w)),
    )
    return max(float((one.cpu().double() - exact).norm() / exact.norm()) for one, exact in pairs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_products_in_fp32_are_exact_unless_a_recipe_says_tf32(device: torch.device, precision: str) -> None:
    assert error_of_product(device, precision) < 1e-5


@pytest.mark.gpu
def test_tf32_computes_with_fewer_bits_and_leaves_the_settings_as_they_were(gpu: torch.device) -> None:
    assert 1e-4 < error_of_product(gpu, "tf32") < 1e-2
    assert torch.get_float32_matmul_precision() == "highest"
    assert error_of_product(gpu, "fp32") < 1e-5


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_training_in_this_precision_learns(
    device: torch.device, noise_recipe: Callable[..., Recipe], tmp_path: Path, precision: str
) -> None:
    if device.type == "cpu" and precision == "bf16":
        precision = "fp32"  # not every processor has units for it
    reports: list[dict[str, float]] = []
    train(noise_recipe({"training.precision": precision, "training.epochs": 2}), tmp_path / "run", reports.append)
    first, second, finished = reports
    assert second["train/loss"] < first["train/loss"]
    assert first["train/skipped"] == second["train/skipped"] == 0
    assert "dev/wer_final" in finished
