"""The CTC loss by one recursion over labels instead of one over frames, for GPUs.

torch's loss on a GPU copies input and target lengths and offsets from the host's pageable memory, in the forward and in
the backward pass, and the host waits for each of these six copies, and so for all the work before it. Here nothing is
copied. The recursion of Graves et al. (ICML 2006), eq. 6 to 11, is linear in the probability domain for one label, so
that its sum over frames is a cumulative sum: U steps of six operations, where the recursion over frames takes T.
Shapes: B utterances, T encoder frames, U labels; N = 2 B sequences, each utterance forwards and backwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEVER = float("-inf")


def ctc_shares(log_probs: Tensor, frames: Tensor, classes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-log p of each utterance (B,), the shares of its paths (B, T, U + 1), and where they count (B, T).

    `log_probs` (B, T, U + 1) are those of `classes` (B, U + 1), the labels and in the last place the blank; all that
    lies beyond `frames` (B,) or `lengths` (B,) may be anything finite. A label's share of a frame is the probability,
    given the labels, that a path is at this label there. A target that does not fit has loss 0 and no shares.
    """
    B, T, U = *log_probs.shape[:2], log_probs.shape[2] - 1
    exact = log_probs.double()  # differences of sums that reach thousands of nats
    labels, blank = exact[..., :U].permute(2, 0, 1), exact[..., U]  # (U, B, T), (B, T)
    utterance = torch.arange(B, device=frames.device)
    place, frame = torch.arange(U, device=frames.device), torch.arange(T, device=frames.device)
    # Backwards, frame t is frame frames-1-t and label u is label lengths-1-u; beyond them the order has no meaning.
    from_end = (frames[:, None] - 1 - frame).remainder(T)  # (B, T)
    label_from_end = (lengths[:, None] - 1 - place).remainder(U).t()[..., None]  # (U, B, 1)
    back = label_from_end, utterance[:, None], from_end
    both_labels = torch.cat((labels, labels[back]), dim=1)  # (U, N, T)
    both_blank = torch.cat((blank, blank.gather(1, from_end)))  # (N, T)
    ids = classes[:, :U].t()
    both_ids = torch.cat((ids, ids[label_from_end[..., 0], utterance]), dim=1)  # (U, N)
    at_label, at_blank = _sum_paths(both_labels, both_blank, both_ids)
    # All paths end in the last label, or in the blank after it.
    last = at_label[(lengths - 1).clamp_min(0), utterance, frames].masked_fill(lengths == 0, NEVER)
    total = torch.logaddexp(last, at_blank[lengths, utterance, frames])
    fits = total > NEVER
    counts = (frame < frames[:, None]) & fits[:, None]  # (B, T)
    at_label = at_label[..., 1:]
    joint = at_label[:, :B] + at_label[label_from_end, B + utterance[:, None], from_end] - labels - total[:, None]
    inside = counts & (place[:, None, None] < lengths[:, None])  # (U, B, T)
    label_shares = torch.where(inside, joint.exp(), 0.0)
    blank_share = torch.where(counts, 1.0 - label_shares.sum(dim=0), 0.0)  # at each frame a path is somewhere
    shares = torch.cat((label_shares, blank_share[None])).permute(1, 2, 0)
    return torch.where(fits, -total, 0.0).to(log_probs), shares.to(log_probs), counts


def _sum_paths(labels: Tensor, blank: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities that paths have come to each label (U, N, T + 1), and to the blank before it (U + 1, N, T + 1).

    Column t is after frame t; there are none before the first. `labels` (U, N, T) and `blank` (N, T) are the classes'
    log-probabilities, `ids` (U, N) the labels.
    """
    U, N, T = labels.shape
    # Everything is relative to a path of blanks: what is at a blank then stays as it is from frame to frame.
    blanks = F.pad(blank.cumsum(dim=1), (1, 0))  # (N, T + 1)
    stays = F.pad(labels.cumsum(dim=2), (1, 0)) - blanks  # (U, N, T + 1)
    # Between equal labels a path needs a blank.
    skips = torch.zeros_like(ids, dtype=labels.dtype)
    skips[:-1].masked_fill_(ids[1:] == ids[:-1], NEVER)
    at_label = labels.new_full((U, N, T + 1), NEVER)
    at_blank = labels.new_full((U + 1, N, T + 1), NEVER)
    at_blank[0] = before = torch.zeros_like(blanks)
    for u in range(U):
        come = (before - stays[u])[:, :-1].logcumsumexp(dim=1)
        torch.add(come, stays[u, :, 1:], out=at_label[u, :, 1:])
        at_blank[u + 1, :, 1:] = at_label[u, :, :-1].logcumsumexp(dim=1)
        before = torch.logaddexp(at_blank[u + 1], at_label[u] + skips[u, :, None])
    return at_label + blanks, at_blank + blanks
