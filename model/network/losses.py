"""The DeCRED loss: L = a L_CTC + (1 - a) sum_i w_i L_i (arXiv 2508.08938).

With InterCTC (arXiv 2102.03216), L_CTC is (1 - w) times the loss of the last encoder layer + w times the mean over
lower layers.

Functions return sums, and the caller divides them by the `Counts` of the whole batch: a batch that is split over
workers or over accumulation steps then has the loss of the unsplit batch.
Shapes: B utterances, U tokens, T encoder frames, V classes, N classifiers; labels are -100 where nothing is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.kernels.ctc_loss import CtcTargets, ctc_nll, make_ctc_targets

IGNORED = -100  # the label of what is not scored


@dataclass(frozen=True)
class Counts:
    """What a loss is averaged over: utterances for CTC, tokens for the classifiers."""

    utterances: int
    tokens: int


@dataclass(frozen=True)
class Losses:
    """The total and each of its terms, mean losses in nats, all () but `per_classifier`.

    `per_classifier` (N,) has the auxiliary classifiers in placement order, the final one last. `ctc` is that of the
    last encoder layer, `inter_ctc` the mean over the lower layers that have a CTC loss, 0 where none has.
    """

    total: Tensor
    ctc: Tensor
    attention: Tensor
    per_classifier: Tensor
    inter_ctc: Tensor


def count_targets(labels: Tensor) -> Counts:
    """The counts of one batch of labels (B, U)."""
    return Counts(labels.shape[0], int((labels != IGNORED).sum()))


def pack_ctc_targets(labels: Tensor, blank: int, reduction: str = "mean") -> CtcTargets:
    """What the CTC losses of a batch read of its labels (B, U), on the labels' device, which is not waited for.

    Weights divide the loss of an utterance by its labels (reduction "mean", as torch's before its division), or leave
    it ("sum"); an utterance without labels counts as 0.
    """
    scored = labels != IGNORED
    lengths = scored.sum(dim=1)
    packed = labels.gather(1, (~scored).byte().argsort(dim=1, stable=True))  # scored labels first, in their order
    divisor = lengths.clamp_min(1) if reduction == "mean" else torch.ones_like(lengths)
    return make_ctc_targets(packed, lengths, blank, torch.where(lengths > 0, 1.0 / divisor, 0.0))


def ctc_sum(logits: Tensor, frames: Tensor, targets: CtcTargets) -> Tensor:
    """Weighted sum over utterances of the CTC loss: logits (B, T, V), their frames (B,), all on one device.

    A target that does not fit into its frames counts as 0. (A published `ctc_zero_infinity: false` would make that
    infinite, and end a training.) Computed in float32.
    """
    nll = ctc_nll(logits.float(), frames, targets)
    return torch.dot(nll, targets.weights.to(nll))


def cross_entropy_sum(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Sum over scored tokens of (1-s) nll + s mean over classes of -log p; logits (B, U, V), labels (B, U)."""
    return F.cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )


def scale_auxiliary(weights: Tensor, factor: float) -> Tensor:
    """Weights (N,) with those of auxiliary classifiers times `factor`; the final one, the last, gets the rest of 1."""
    if factor == 1.0:
        return weights
    # Not `final[-1] = 1.0`: on a GPU the host would wait for that.
    final = (torch.arange(len(weights), device=weights.device) == len(weights) - 1).to(weights)
    return torch.lerp(final, weights, factor)


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
