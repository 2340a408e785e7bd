"""The internal language model: the decoder without its cross-attention (arXiv 2508.08938), of whole sentences.

With a memory it is another estimator's (model/lm/internal.py).

Shapes: B utterances, U tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.evaluation.error_rates import perplexity
from model.network.decoder import CrossAttentionMemory
from model.network.recogniser import Recogniser


@torch.inference_mode()
def token_nll(model: Recogniser, token_ids: Tensor, mask: Tensor, memory: CrossAttentionMemory | None = None) -> Tensor:
    """-log p of every token after the first, 0 where `mask` is 0: ids, bos to eos, and mask (B, U) -> (B, U-1).

    `memory` is that of a single utterance, which all sequences read; without it cross-attention is skipped.
    """
    if memory is not None:
        memory = memory.select(torch.zeros(len(token_ids), dtype=torch.long, device=token_ids.device))
    logits = model.decoder.final_logits(token_ids, memory)[:, :-1]
    nll = F.cross_entropy(logits.float().transpose(1, 2), token_ids[:, 1:].long(), reduction="none")
    return nll * mask[:, 1:]


def sequence_perplexities(
    model: Recogniser, token_ids: Tensor, mask: Tensor, memory: CrossAttentionMemory | None = None
) -> Tensor:
    """Per sequence exp(mean NLL), eos scored and bos not, `memory` as in `token_nll`: (B, U), (B, U) -> (B,)."""
    nll, counts = token_nll(model, token_ids, mask, memory).double().sum(dim=1), mask[:, 1:].sum(dim=1)
    values = [perplexity(total, count) for total, count in zip(nll.tolist(), counts.tolist(), strict=True)]
    return torch.tensor(values, device=token_ids.device)
