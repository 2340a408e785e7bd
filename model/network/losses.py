"""The DeCRED loss: L = a L_CTC + (1 - a) sum_i w_i L_i (arXiv 2508.08938).

With InterCTC (arXiv 2102.03216), L_CTC is (1 - w) that of the last encoder layer + w the mean over lower layers.

Sums and counts are kept apart: a batch that is split over workers or over accumulation steps is divided by the
counts of the whole, so that the split never changes the loss.
Shapes: B utterances, U tokens, T encoder frames, V classes; labels are -100 where nothing is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.kernels.ctc_loss import ctc_nll

IGNORED = -100


@dataclass(frozen=True)
class Counts:
    """What a loss is averaged over: utterances for CTC, tokens for the classifiers."""

    utterances: int
    tokens: int


@dataclass(frozen=True)
class Losses:
    """Every term apart; `per_classifier` has the auxiliary classifiers in placement order, the final one last.

    `ctc` is that of the last encoder layer, `inter_ctc` the mean over the lower ones that have one, 0 without any.
    """

    total: Tensor
    ctc: Tensor
    attention: Tensor
    per_classifier: Tensor
    inter_ctc: Tensor


def count(labels: Tensor) -> Counts:
    """Counts of one batch of labels (B, U)."""
    return Counts(labels.shape[0], int((labels != IGNORED).sum()))


def ctc_sum(logits: Tensor, frames: Tensor, labels: Tensor, blank: int, reduction: str = "mean") -> Tensor:
    """Sum over utterances of nll / target length (torch's "mean" before its division), or of nll ("sum"), in float32.

    logits (B, T, V), their frames (B,), labels (B, U); with the last two on the host, no device is waited for. A
    target that cannot fit its frames counts as 0, and so does an utterance without labels. (A published
    `ctc_zero_infinity: false` would make that infinite, and end a training.)
    """
    scored = labels != IGNORED
    lengths = scored.sum(dim=1)
    packed = labels.gather(1, (~scored).byte().argsort(dim=1, stable=True))  # what is scored comes first
    nll = ctc_nll(logits.float(), frames.tolist(), packed, lengths.tolist(), blank)
    divisor = lengths.clamp_min(1) if reduction == "mean" else torch.ones_like(lengths)
    share = torch.where(lengths > 0, 1.0 / divisor, 0.0)
    return torch.dot(nll, share.to(nll))


def cross_entropy_sum(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Sum over scored tokens of (1-s) nll + s mean over classes of -log p; logits (B, U, V), labels (B, U)."""
    return F.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )


def decred_loss(
    ctc: Tensor,
    per_classifier: Tensor,
    weights: Tensor,
    ctc_weight: float,
    inter_ctc: Tensor | None = None,
    inter_weight: float = 0.0,
) -> Losses:
    """Combine mean losses: ctc (), inter_ctc (), per_classifier (N,) and weights (N,), the final classifier last."""
    attention = torch.dot(weights, per_classifier)
    whole_ctc = ctc if inter_ctc is None else (1 - inter_weight) * ctc + inter_weight * inter_ctc
    total = ctc_weight * whole_ctc + (1 - ctc_weight) * attention
    return Losses(total, ctc, attention, per_classifier, torch.zeros_like(ctc) if inter_ctc is None else inter_ctc)
