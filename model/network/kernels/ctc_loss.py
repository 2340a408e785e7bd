"""The CTC loss (Graves et al. 2006), computed over the classes that occur in an utterance's labels.

torch's loss takes and returns tensors of all V classes of every frame, six of them before the gradient reaches the
logits. A target uses only its own labels and the blank, so here the recursion runs on those, and the gradient of the
logits is written once: softmax minus the share of the paths that goes through each class.
Shapes: B utterances, T encoder frames, U labels, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.kernels.ctc_recursion import ctc_shares

NO_REDUCTION = 0  # torch.ctc_loss takes the reduction as a number


@dataclass(frozen=True)
class CtcTargets:
    """The labels of B utterances as the CTC loss reads them: made once, and shared by all CTC losses of a batch.

    `classes` (B, U + 1) are ids: the labels, in the last place and beyond an utterance's labels the blank. `places`
    (B, U) are where each label occurs first in `classes`, `lengths` (B,) the numbers of labels. `weights` (B,) are what
    each utterance's loss is multiplied by before they are summed.
    """

    classes: Tensor
    places: Tensor
    lengths: Tensor
    weights: Tensor


def make_ctc_targets(labels: Tensor, lengths: Tensor, blank: int, weights: Tensor) -> CtcTargets:
    """`labels` (B, U) may hold anything beyond `lengths` (B,); weights (B,). No device is waited for."""
    U = labels.shape[1]
    inside = torch.arange(U, device=labels.device) < lengths[:, None]
    labels = labels.masked_fill(~inside, blank)
    # Equal labels must be the same class, that of their first place: between equal neighbours a path needs a blank.
    places = (labels[:, :, None] == labels[:, None, :]).byte().argmax(dim=2)
    return CtcTargets(F.pad(labels, (0, 1), value=blank), places, lengths, weights)


def ctc_nll(logits: Tensor, frames: Tensor, targets: CtcTargets) -> Tensor:
    """-log p(labels) of each utterance in nats: logits (B, T, V) in float32 or wider, frames (B,) -> (B,).

    All on one device. On a CPU torch's recursion over frames runs; elsewhere one that waits for nothing. A target that
    does not fit into its frames has loss 0 and no gradient.
    """
    return _CtcNll.apply(logits, frames, targets)


def torch_shares(log_probs: Tensor, frames: Tensor, targets: CtcTargets) -> tuple[Tensor, Tensor, Tensor]:
    """`ctc_shares` by torch's loss and its gradient; a GPU's host waits in it six times."""
    of_time = log_probs.transpose(0, 1).requires_grad_()
    with torch.enable_grad():
        nll = _torch_nll(of_time, frames, targets)
    # torch's gradient is that of logits with this softmax: p minus the share of the paths.
    (gradient,) = torch.autograd.grad(nll, of_time, torch.ones_like(nll))
    valid = torch.arange(log_probs.shape[1], device=frames.device) < frames[:, None]
    valid = valid & (nll != 0)[:, None]
    share = (of_time.detach().exp() - gradient).transpose(0, 1) * valid[..., None]
    return nll.detach(), share, valid


def _torch_nll(of_time: Tensor, frames: Tensor, targets: CtcTargets) -> Tensor:
    """Log-probabilities (T, B, U + 1) -> (B,)."""
    lengths, blank = targets.lengths.tolist(), targets.places.shape[1]
    return torch.ctc_loss(of_time, targets.places, frames.tolist(), lengths, blank, NO_REDUCTION, zero_infinity=True)


class _CtcNll(torch.autograd.Function):
    """`ctc_nll`, whose gradient is found in the forward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, frames: Tensor, targets: CtcTargets) -> Tensor:
        normaliser = logits.logsumexp(dim=2, keepdim=True)
        index = targets.classes[:, None].expand(-1, logits.shape[1], -1)
        log_probs = logits.gather(2, index) - normaliser
        if logits.device.type != "cpu":
            nll, share, valid = ctc_shares(log_probs, frames, targets.classes, targets.lengths)
        elif ctx.needs_input_grad[0]:
            nll, share, valid = torch_shares(log_probs, frames, targets)
        else:
            return _torch_nll(log_probs.transpose(0, 1), frames, targets)
        ctx.save_for_backward(logits, normaliser, index, share, valid)
        return nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, normaliser, index, share, valid = ctx.saved_tensors
        scale = grad[:, None, None]
        gradient = (logits - normaliser).exp_().mul_(valid[..., None] * scale)
        return gradient.scatter_add_(2, index, -share * scale), None, None
