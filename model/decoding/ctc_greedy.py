"""Greedy CTC decoding: the best path of the CTC head, without the decoder (Graves et al. 2006, section 3.2)."""

from __future__ import annotations

import torch

from model.network.recogniser import EncoderOutput, Recogniser


@torch.inference_mode()
def decode_ctc_greedy(model: Recogniser, encoded: EncoderOutput) -> list[list[int]]:
    """Token ids of each utterance: the most likely class of every frame, repeats collapsed and blanks removed."""
    best = encoded.ctc_logits.argmax(dim=-1)  # (B, S)
    hypotheses = []
    for path, length in zip(best, encoded.lengths.tolist(), strict=True):
        collapsed = torch.unique_consecutive(path[:length])
        hypotheses.append(collapsed[collapsed != model.blank].tolist())
    return hypotheses
