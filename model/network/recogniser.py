"""The recogniser: encoder, CTC head, decoder with its classifiers.

Shapes: B batch, T feature frames, S encoder frames, U tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from model.network import losses
from model.network.attention import RelativeAttention
from model.network.decoder import CrossAttentionMemory, Decoder
from model.network.encoder import Encoder, valid_frame_mask
from model.network.kernels.dropout import Dropout
from model.network.kernels.linear import Linear
from model.recipe.architecture import SpecialTokens
from model.recipe.recipe import Recipe


@dataclass(frozen=True)
class EncoderOutput:
    """states (B, S, D), lengths (B,) in encoder frames, ctc_logits (B, S, V+1) with the blank last.

    Where the blank is a token of the vocabulary, ctc_logits are (B, S, V).
    """

    states: Tensor
    lengths: Tensor
    ctc_logits: Tensor


@dataclass(frozen=True)
class PublishedOrigin:
    """What a published checkpoint holds beyond recipe and weights: its config files, and tensors that nothing reads."""

    config: dict[str, Any]
    generation: dict[str, Any] | None = None
    unused: dict[str, Tensor] = field(default_factory=dict)


class Recogniser(nn.Module):
    """A DeCRED model (arXiv 2508.08938) built from a recipe.

    Without mixing, auxiliary classifiers are evaluated in training alone. `origin` is set where the model comes from a
    published checkpoint, and is written out again with it. `tokens_per_second` bounds hypotheses; it is learnt from the
    training text (model/decoding/length_limit.py), and None where that is not known. `ctc_weight` and
    `auxiliary_factor` are of the next step, where training changes them (model/training/schedules.py).
    """

    class_weights: Tensor
    origin: PublishedOrigin | None = None
    tokens_per_second: float | None = None
    auxiliary_factor: float = 1.0

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.read_recipe(recipe)
        self.encoder = Encoder(recipe.encoder)
        self.ctc = nn.Sequential(Dropout(recipe.encoder.dropout), Linear(recipe.encoder.width, self.ctc_classes))
        placement = recipe.loss.auxiliary.placement
        self.decoder = Decoder(recipe.decoder, placement, recipe.encoder.width, self.vocabulary)
        if recipe.decoding.mixing != "none":
            self.decoder.mixing = torch.tensor(recipe.decoding.mixing)
        initialise_weights(self)

    def read_recipe(self, recipe: Recipe) -> None:
        """Set what does not depend on the network: the weights of the loss, the vocabulary and its special tokens."""
        auxiliary = recipe.loss.auxiliary
        self.recipe, self.special = recipe, recipe.tokenizer.special
        self.ctc_weight, self.label_smoothing = recipe.loss.ctc_weight, recipe.loss.label_smoothing
        self.vocabulary = recipe.tokenizer.vocabulary
        extra_blank = self.special.blank is None  # then the blank is a class beyond the vocabulary
        self.blank = self.vocabulary if self.special.blank is None else self.special.blank
        self.ctc_classes = self.vocabulary + extra_blank
        weights = torch.tensor([*auxiliary.weights, auxiliary.final_weight])
        self.register_buffer("class_weights", weights, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def encode(self, features: Tensor, lengths: Tensor) -> EncoderOutput:
        """features (B, T, 80), lengths (B,) in frames."""
        return self.add_ctc(*self.encode_states(features, lengths))

    def encode_states(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, 80), lengths (B,) in frames -> states (B, S, D), their lengths (B,)."""
        return self.encoder(features, lengths)

    def add_ctc(self, states: Tensor, lengths: Tensor) -> EncoderOutput:
        """The states (B, S, D) of `encode_states` with the logits of the CTC head."""
        return EncoderOutput(states, lengths, self.ctc(states))

    def encode_layers(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], EncoderOutput]:
        """The states of the lower layers that have a CTC loss, each (B, S, D), and what `encode` gives."""
        (*lower, states), frames = self.encoder.layer_outputs(features, lengths, self.recipe.loss.inter_ctc.layers)
        return lower, self.add_ctc(states, frames)

    def prepare_memory(self, encoded: EncoderOutput) -> CrossAttentionMemory:
        """The keys and values that the decoder attends to, computed once for all tokens."""
        return self.decoder.prepare_memory(encoded.states, valid_frame_mask(encoded.lengths, encoded.states))

    def classify(self, encoded: EncoderOutput, decoder_input_ids: Tensor) -> list[Tensor]:
        """Ids (B, U) -> logits (B, U, V) of the auxiliary classifiers in placement order, the final one's last."""
        return self.decoder.classify(decoder_input_ids, self.prepare_memory(encoded))

    def loss(
        self,
        features: Tensor,
        lengths: Tensor,
        labels: Tensor,
        label_smoothing: float | None = None,
        counts: losses.Counts | None = None,
    ) -> losses.Losses:
        """Teacher-forced loss: features (B, T, 80), lengths (B,) in frames, labels (B, U) with eos, -100 is ignored.

        `counts` are those of the whole batch when this is a part of it; by default this is all of it. With counts, and
        with lengths and labels on the device or in pinned memory, a GPU is never waited for.
        """
        counts, device = counts or losses.count_targets(labels), features.device
        lengths, targets = lengths.to(device, non_blocking=True), labels.to(device, torch.long, non_blocking=True)
        smoothing = self.label_smoothing if label_smoothing is None else label_smoothing
        inter, reduction = self.recipe.loss.inter_ctc, self.recipe.loss.ctc_reduction
        lower, encoded = self.encode_layers(features, lengths)
        logits = self.classify(encoded, shift_right(targets, self.special))
        sums = [losses.cross_entropy_sum(scores, targets, smoothing) for scores in logits]
        ctc_targets = losses.pack_ctc_targets(targets, self.blank, reduction)

        def ctc_loss(scores: Tensor) -> Tensor:
            ctc = losses.ctc_sum(scores, encoded.lengths, ctc_targets)
            return ctc / counts.utterances if reduction == "mean" else ctc

        ctc = ctc_loss(encoded.ctc_logits)
        inter_ctc = [ctc_loss(self.ctc(lower_states)) for lower_states in lower]
        return losses.decred_loss(
            ctc,
            torch.stack(sums) / max(counts.tokens, 1),
            losses.scale_auxiliary(self.class_weights, self.auxiliary_factor),
            self.ctc_weight,
            torch.stack(inter_ctc).mean() if inter_ctc else None,
            inter.weight,
        )

    def forward(self, features: Tensor, lengths: Tensor, labels: Tensor, counts: losses.Counts) -> losses.Losses:
        """The training loss, as DistributedDataParallel calls it."""
        return self.loss(features, lengths, labels, counts=counts)


def shift_right(labels: Tensor, special: SpecialTokens | None = None) -> Tensor:
    """Decoder input for labels (B, U): bos, then the labels without the last; ignored labels become pad: (B, U)."""
    special = special or SpecialTokens()
    start = labels.new_full((labels.shape[0], 1), special.bos)
    inputs = torch.cat((start, labels[:, :-1]), dim=1)
    return inputs.masked_fill(inputs == losses.IGNORED, special.pad)


def initialise_weights(model: Recogniser) -> None:
    """Set initial weights as the published training code does, from torch's global generator.

    Linear, embedding, classifiers: N(0, 0.02), biases 0; outputs of residual decoder sublayers N(0, 0.02 / sqrt(2 L));
    depthwise convolutions Kaiming normal, uniform biases; position biases Xavier uniform; the rest torch's defaults.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
            bound = math.sqrt(module.groups / (module.in_channels * module.kernel_size[0]))
            nn.init.uniform_(module.bias, -bound, bound)  # type: ignore[arg-type]
        elif isinstance(module, RelativeAttention):
            nn.init.xavier_uniform_(module.content_bias)
            nn.init.xavier_uniform_(module.position_bias)
    residual_std = 0.02 / math.sqrt(2 * len(model.decoder.layers))
    for layer in model.decoder.typed_layers():
        for out in layer.residual_outputs():
            nn.init.normal_(out.weight, std=residual_std)
