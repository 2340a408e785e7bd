"""The encoder in decoding, in the precision that a decoding asks for.

Shapes: B batch, T feature frames, S encoder frames, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.network.kernels.precision import has_bf16_units, product_precision
from model.network.recogniser import EncoderOutput, Recogniser
from model.recipe.decoding import SearchConfig


def encode(model: Recogniser, features: Tensor, lengths: Tensor, decoding: SearchConfig) -> EncoderOutput:
    """features (B, T, 80), lengths (B,) in frames -> the encoder's states with the logits of the CTC head."""
    return model.add_ctc(*encode_states(model, features, lengths, decoding))


def encode_states(
    model: Recogniser, features: Tensor, lengths: Tensor, decoding: SearchConfig
) -> tuple[Tensor, Tensor]:
    """features (B, T, 80), lengths (B,) in frames -> states (B, S, D) in float32, their lengths (B,).

    Without units for bf16 the encoder is computed in fp32, whatever the decoding asks for.
    """
    device = features.device
    is_bf16 = decoding.encoder_precision == "bf16" and has_bf16_units(device)
    with product_precision(device, "fp32"), torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
        states, lengths = model.encode_states(features, lengths)
    return states.float(), lengths


def keep_cast_weights(device: torch.device) -> torch.autocast:
    """A context in which weights are cast once: autocast forgets those it has cast when the outermost one ends."""
    return torch.autocast(device.type, enabled=False)
