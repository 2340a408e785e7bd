"""Pieces in the forms that compete on a GPU: the CTC loss, attention with relative positions, a step of the decoder.

Shapes: B utterances, T frames, H heads, E width of a head, V classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from benchmarks.gpu_stopwatch import Timing, measure
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from model.decoding.decoder_steps import CapturedStep, DecoderSteps, PlainSteps
from model.decoding.static_step import StaticStep, StaticSteps
from model.network.attention import _relative_shift, attend
from model.network.kernels import ctc_loss
from model.network.kernels.ctc_loss import ctc_nll
from model.network.losses import pack_ctc_targets
from model.network.recogniser import Recogniser

FRAMES, LABELS, CLASSES, HEADS, WIDTH = 250, 40, 5001, 4, 64
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def ctc_rows(device: torch.device, utterances: int, rounds: int) -> list[list[str]]:
    """The recursion over labels, and torch's own over frames, for which the host waits."""
    logits = torch.randn(utterances, FRAMES, CLASSES, device=device, requires_grad=True)
    frames = torch.full((utterances,), FRAMES, device=device)
    targets = pack_ctc_targets(torch.randint(4, CLASSES - 1, (utterances, LABELS), device=device), CLASSES - 1)

    def work() -> None:
        torch.autograd.grad(ctc_nll(logits, frames, targets).sum(), logits)

    def by_torch(log_probs: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return ctc_loss.torch_shares(log_probs, frames, targets)

    rows = [_row("over labels, no waits" if device.type == "cuda" else "torch's", measure(work, device, rounds))]
    before, ctc_loss.ctc_shares = ctc_loss.ctc_shares, by_torch  # type: ignore[assignment]
    try:
        rows.append(_row("over frames, torch's", measure(work, device, rounds)))
    finally:
        ctc_loss.ctc_shares = before
    return rows


def plain_attention(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
    """q, k, v (B, H, T, E), position scores (B, H, T, 2T-1), scaled -> (B, H, T, E)."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + _relative_shift(positions)
    return torch.matmul(scores.softmax(dim=-1), v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
    """`plain_attention` by the fused kernel with a bias, as training computes it."""
    return attend(q, k, v, _relative_shift(positions), 0.0)


def flexible_attention(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
    """`plain_attention` by FlexAttention, which reads the position scores in place."""
    last = q.shape[2] - 1

    def add_position(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + positions[b, h, query, key - query + last]

    return flex_attention(q, k, v, score_mod=add_position)


def attention_rows(device: torch.device, utterances: int, rounds: int) -> list[list[str]]:
    """Forward and backward in bf16 on a GPU, in fp32 elsewhere; what a form cannot do here is said in its row."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = utterances, HEADS, FRAMES, WIDTH
    q, k, v = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    positions = torch.randn(*shape[:3], 2 * FRAMES - 1, device=device, dtype=dtype, requires_grad=True)
    forms: list[tuple[str, Attention]] = [("plain", plain_attention), ("fused with a bias", fused_attention)]
    if device.type == "cuda":
        forms.append(("FlexAttention, compiled", torch.compile(flexible_attention)))
    rows = []
    for name, attention in forms:

        def work(attention: Attention = attention) -> None:
            torch.autograd.grad(attention(q, k, v, positions).float().square().sum(), (q, k, v, positions))

        try:
            rows.append(_row(name, measure(work, device, rounds)))
        except Exception as error:  # one that cannot do this is a result
            rows.append([name, f"failed: {type(error).__name__}", "-", "-"])
    return rows


@torch.inference_mode()
def step_rows(model: Recogniser, device: torch.device, utterances: int, beam: int, rounds: int) -> list[list[str]]:
    """Steps of the decoder with a beam: operator by operator, in tensors that stay, and on a GPU as a CUDA graph."""
    states = torch.randn(utterances, FRAMES, model.recipe.encoder.width, device=device)
    memory = model.decoder.prepare_memory(states, torch.ones(utterances, FRAMES, dtype=torch.bool, device=device))
    tokens = torch.full((utterances, beam), 5, device=device)
    firsts = torch.arange(0, utterances * beam, beam, device=device).repeat_interleave(beam)
    kinds: list[tuple[str, type[StaticStep]]] = [("tensors that stay", StaticStep)]
    if device.type == "cuda":
        kinds.append(("CUDA graph", CapturedStep))
    forms: list[tuple[str, DecoderSteps]] = [("operator by operator", PlainSteps(model.decoder, memory, beam))]
    for name, kind in kinds:
        forms.append((name, StaticSteps(functools.partial(kind, model.decoder), memory, beam)))
    rows = []
    for name, steps in forms:

        def work(steps: DecoderSteps = steps) -> None:
            steps.step(tokens)
            steps.select(firsts, None)  # all continue the first

        rows.append(_row(f"{model.recipe.name}, {name}", measure(work, device, rounds)))
    return rows


def compare_forms(utterances: int, frames: int) -> Sequence[Tensor]:
    """The output of each form for the same input in float32, on this processor."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(utterances, HEADS, frames, WIDTH, generator=generator) for _ in range(3))
    positions = torch.randn(utterances, HEADS, frames, 2 * frames - 1, generator=generator)
    return [form(q, k, v, positions) for form in (plain_attention, fused_attention, flexible_attention)]


def _row(name: str, timing: Timing) -> list[str]:
    host = f"{100 * timing.host_seconds / timing.seconds:.0f} %"
    return [name, f"{timing.seconds:.5f}", host, f"{timing.peak_bytes / 2**30:.2f}"]
