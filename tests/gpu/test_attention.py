"""Relative positions as the bias of a fused kernel: its values and its gradients, beside the plain form in float64.

The fused kernel for a bias with a gradient wants rows that start at multiples of 8 numbers, hence odd lengths here.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.network.attention import RelativeAttention, relative_position_encoding

WIDTH, HEADS, UTTERANCES = 64, 4, 3
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


def plain_attention(layer: RelativeAttention, x: Tensor, positions: Tensor, valid: Tensor) -> Tensor:
    """Transformer-XL's equation, a number at a time: x (B, T, D), positions (2T-1, D), valid (B, T) -> (B, T, D)."""
    T, E = x.shape[1], WIDTH // HEADS
    q, k, v = (project(x).unflatten(-1, (HEADS, E)) for project in (layer.query, layer.key, layer.value))
    p = layer.position(positions).unflatten(-1, (HEADS, E))  # (2T-1, H, E)
    distance = torch.arange(T)[None] - torch.arange(T)[:, None] + T - 1  # place of i - j among T-1 ... -(T-1)
    content = torch.einsum("bihe,bjhe->bhij", q + layer.content_bias, k)
    position = torch.einsum("bihe,ijhe->bhij", q + layer.position_bias, p[distance])
    scores = ((content + position) / E**0.5).masked_fill(~valid[:, None, None], float("-inf"))
    return layer.out(torch.einsum("bhij,bjhe->bihe", scores.softmax(-1), v).flatten(-2))


def run(attention, layer: RelativeAttention, x: Tensor, valid: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """The output on valid frames, and the gradients of all inputs, for a weighted sum of the output."""
    x = x.detach().requires_grad_()
    positions = relative_position_encoding(x.shape[1], WIDTH, x.device).to(x.dtype).requires_grad_()
    out = attention(layer, x, positions, valid) * valid[..., None]
    (out * weights).sum().backward()
    found = {"output": out, "x": x.grad, "positions": positions.grad}
    found |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {name: value.detach().cpu().double() for name, value in found.items()}


@pytest.mark.parametrize("kernel", ["chosen", "fused"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("frames", [1, 7, 64, 157, 251])
def test_relative_attention_and_all_its_gradients_are_those_of_the_plain_form(
    device: torch.device, frames: int, dtype: torch.dtype, kernel: str
) -> None:
    torch.manual_seed(frames)
    layer = RelativeAttention(WIDTH, HEADS, 0.0)
    torch.nn.init.normal_(layer.content_bias)
    torch.nn.init.normal_(layer.position_bias)
    layer = layer.to(dtype)
    x, weights = (torch.randn(UTTERANCES, frames, WIDTH).to(dtype) for _ in range(2))
    valid = torch.arange(frames) < torch.tensor([frames, -(-frames // 2), -(-frames // 3)])[:, None]
    exact = RelativeAttention(WIDTH, HEADS, 0.0).double()
    exact.load_state_dict(layer.state_dict())
    expected = run(plain_attention, exact, x.double(), valid, weights.double())
    only = sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION if device.type == "cuda" else SDPBackend.MATH)
    with only if kernel == "fused" else contextlib.nullcontext():
        arguments = (tensor.to(device) for tensor in (x, valid, weights))
        found = run(RelativeAttention.forward, layer.to(device), *arguments)
    largest = max(float(value.norm()) for name, value in expected.items() if name != "output")
    for name, value in expected.items():
        assert found[name].isfinite().all(), name
        # A key's bias moves all scores of a query alike: its gradient is 0 but for rounding.
        scale = max(float(value.norm()), 1e-2 * largest)
        assert float((found[name] - value).norm()) < TOLERANCE[dtype] * scale, name
