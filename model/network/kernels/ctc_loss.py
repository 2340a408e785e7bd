"""The CTC loss (Graves et al. 2006), computed over the classes that occur in an utterance's labels.

torch's loss takes and returns tensors of all V classes of every frame, six of them before the gradient reaches the
logits. A target uses only its own labels and the blank, so here the recursion runs on those, and the gradient of the
logits is written once: softmax minus the share of the paths that goes through each class.
Shapes: B utterances, T encoder frames, U labels, V classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NO_REDUCTION = 0  # torch.ctc_loss takes the reduction as a number


def ctc_nll(logits: Tensor, frames: list[int], labels: Tensor, lengths: list[int], blank: int) -> Tensor:
    """-log p(labels) of each utterance in nats: logits (B, T, V) in float32 or wider -> (B,).

    `labels` (B, U) may hold anything beyond `lengths`. Frames and lengths are plain numbers, so that no device has to
    be waited for. A target that does not fit into its frames has loss 0 and no gradient.
    """
    U, device = labels.shape[1], labels.device
    inside = torch.arange(U, device=device) < torch.tensor(lengths, device=device)[:, None]
    labels = labels.masked_fill(~inside, blank)
    # Equal labels must be the same class, that of their first place: between equal neighbours a path needs a blank.
    targets = (labels[:, :, None] == labels[:, None, :]).byte().argmax(dim=2)
    classes = F.pad(labels, (0, 1), value=blank)
    return _CtcNll.apply(logits, frames, classes.to(logits.device), targets.to(logits.device), lengths)


class _CtcNll(torch.autograd.Function):
    """`ctc_nll` for `targets` (B, U), which are places in `classes` (B, U + 1), which are ids of V, the blank last."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, frames: list[int], classes: Tensor, targets: Tensor, lengths: list[int]
    ) -> Tensor:
        normaliser = logits.logsumexp(dim=2, keepdim=True)
        index = classes[:, None].expand(-1, logits.shape[1], -1)
        log_probs = (logits.gather(2, index) - normaliser).transpose(0, 1).requires_grad_(ctx.needs_input_grad[0])
        with torch.enable_grad():
            nll = torch.ctc_loss(
                log_probs, targets, frames, lengths, targets.shape[1], NO_REDUCTION, zero_infinity=True
            )
        if ctx.needs_input_grad[0]:
            # torch's gradient is that of logits with this softmax: p minus the share of the paths.
            (gradient,) = torch.autograd.grad(nll, log_probs, torch.ones_like(nll))
            valid = torch.arange(logits.shape[1]) < torch.tensor(frames)[:, None]
            valid = valid.to(logits.device, non_blocking=True) & (nll != 0)[:, None]
            share = (log_probs.detach().exp() - gradient).transpose(0, 1) * valid[..., None]
            ctx.save_for_backward(logits, normaliser, index, share, valid)
        return nll.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, normaliser, index, share, valid = ctx.saved_tensors
        scale = grad[:, None, None]
        gradient = (logits - normaliser).exp_().mul_(valid[..., None] * scale)
        return gradient.scatter_add_(2, index, -share * scale), None, None, None, None
