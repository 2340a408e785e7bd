"""The CTC loss (Graves et al. 2006) over the classes that an utterance's labels name.

The library's takes and returns tensors of all V classes of every frame, six of them before the gradient reaches the
logits. Of all these classes a target uses its own labels and the blank alone, so the recursion runs on those, and the
gradient of the logits is written once: softmax minus the share of the paths that each class has.
Shapes: B utterances, T encoder frames, U labels, V classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NONE = 0  # the library's number for "no reduction"


def ctc_nll(logits: Tensor, frames: list[int], labels: Tensor, lengths: list[int], blank: int) -> Tensor:
    """-log p(labels) of each utterance: logits (B, T, V) in float32 or wider -> (B,).

    `labels` (B, U) are padded with anything beyond `lengths`; frames and lengths are numbers of the host, so that no
    device has to be waited for. A target that cannot fit its frames counts as 0 and has no gradient.
    """
    U, device = labels.shape[1], labels.device
    inside = torch.arange(U, device=device) < torch.tensor(lengths, device=device)[:, None]
    labels = labels.masked_fill(~inside, blank)
    # Equal labels are one class, that of their first place: between equal neighbours a path needs a blank.
    targets = (labels[:, :, None] == labels[:, None, :]).byte().argmax(dim=2)
    classes = F.pad(labels, (0, 1), value=blank)
    return _Nll.apply(logits, frames, classes.to(logits.device), targets.to(logits.device), lengths)


class _Nll(torch.autograd.Function):
    """`classes` (B, U + 1) of V, the blank last, of which `targets` (B, U) are a path."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, frames: list[int], classes: Tensor, targets: Tensor, lengths: list[int]
    ) -> Tensor:
        normaliser = logits.logsumexp(dim=2, keepdim=True)
        index = classes[:, None].expand(-1, logits.shape[1], -1)
        log_probs = (logits.gather(2, index) - normaliser).transpose(0, 1).requires_grad_(ctx.needs_input_grad[0])
        with torch.enable_grad():
            nll = torch.ctc_loss(log_probs, targets, frames, lengths, targets.shape[1], NONE, zero_infinity=True)
        if ctx.needs_input_grad[0]:
            # The library's gradient is that of logits whose softmax these are: p minus the share of the paths.
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
