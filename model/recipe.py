"""The recipe: everything that one training run needs, as one frozen, validated value.

The number of workers and the device are no part of it: the batch is a global one, so a recipe means the same
run on one worker or on many.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.strict import Strict

SAMPLE_RATE = 16_000  # Hz
MEL_BINS = 80

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
TokenId = Annotated[int, Field(ge=0)]


def _heads_divide(part: str, width: int, heads: int) -> None:
    if width % (2 * heads):
        raise ValueError(f"{part}.width is {width} with {heads} heads, but must be a multiple of {2 * heads}")


class Data(Strict):
    """Which corpus, and how it is cut into global batches."""

    corpus: str = Field(description="folder of the corpus (made by `decred-study prepare`)")
    fingerprint: str | None = Field(None, description="content hash of the corpus; a run on other content is refused")
    seed: int = Field(0, description="order of the batches; the same for every trial of a study")
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2.0)], ...] = Field(
        (1.0,), min_length=1, description="speed perturbation of the training set; 1.0 leaves it as it is"
    )
    batch_seconds: float = Field(
        60.0, gt=0, description="audio in one optimiser step, over all workers, padding included"
    )
    buckets: Count = Field(8, description="utterances of similar length are batched together")
    longest_seconds: float = Field(30.0, gt=0, description="longer training utterances are left out, and counted")


class SpecialTokens(Strict):
    """Token ids that stand for no text; published checkpoints have their own."""

    bos: TokenId = Field(0, description="what the decoder starts with")
    eos: TokenId = 1
    unk: TokenId = 2
    pad: TokenId = 3
    blank: TokenId | None = Field(
        None, description="the CTC blank: a token of the vocabulary; null gives it a class of its own, the last"
    )


class Tokenizer(Strict):
    """SentencePiece unigram pieces, trained on the training text."""

    vocabulary: Annotated[int, Field(ge=8)] = Field(500, description="pieces, the four special ones included")
    special: SpecialTokens = SpecialTokens()

    @model_validator(mode="after")
    def _consistent(self) -> Tokenizer:
        for name, token in self.special:
            if token is not None and token >= self.vocabulary:
                raise ValueError(
                    f"tokenizer.special.{name} is {token}, but must be below tokenizer.vocabulary, {self.vocabulary}"
                )
        return self


class Augmentation(Strict):
    """SpecAugment (arXiv 1904.08779): how many masks, and the widest each may be."""

    time_masks: Annotated[int, Field(ge=0)] = 2
    time_mask_frames: Annotated[int, Field(ge=0)] = 40
    time_mask_share: Share = Field(0.2, description="one time mask covers at most this share of the utterance")
    frequency_masks: Annotated[int, Field(ge=0)] = 2
    frequency_mask_bins: Annotated[int, Field(ge=0, le=MEL_BINS)] = 27


class Encoder(Strict):
    """E-Branchformer (arXiv 2210.00077) behind two stride-2 convolutions."""

    layers: Count = 12
    width: Count = 256
    heads: Count = 4
    feed_forward: Count = 1024
    cgmlp: Annotated[int, Field(ge=2, multiple_of=2)] = Field(
        1024, description="inner width of the convolutional gating MLP"
    )
    cgmlp_kernel: Annotated[int, Field(ge=1)] = 31
    merge_kernel: Annotated[int, Field(ge=1)] = 31
    channels: Count = Field(256, description="channels of the two subsampling convolutions")
    convolution_padding: Literal[0, 1] = Field(
        0, description="zeros around the input of the subsampling convolutions; 1 for some published checkpoints"
    )
    padding: Literal["invariant", "published"] = Field(
        "invariant",
        description="whether an utterance's states depend on how much padding its batch has: never, or as published "
        "checkpoints have it, whose convolutions read what attention leaves in padded frames",
    )
    dropout: Share = 0.1

    @model_validator(mode="after")
    def _consistent(self) -> Encoder:
        if self.convolution_padding and self.padding == "invariant":
            raise ValueError(
                "encoder.convolution_padding is 1, which lets padding in; set encoder.padding to published, "
                "or encoder.convolution_padding to 0"
            )
        _heads_divide("encoder", self.width, self.heads)
        for name, kernel in (("cgmlp_kernel", self.cgmlp_kernel), ("merge_kernel", self.merge_kernel)):
            if kernel % 2 == 0:
                raise ValueError(f"encoder.{name} is {kernel}, but must be odd so that it has a centre")
        return self


class Decoder(Strict):
    """Pre-norm Transformer decoder with cross-attention."""

    layers: Count = 6
    width: Count = 256
    heads: Count = 4
    feed_forward: Count = 1024
    project_encoder: bool = Field(
        False, description="bring encoder states to the decoder's width by one more Linear, as published checkpoints"
    )
    dropout: Share = 0.1

    @model_validator(mode="after")
    def _consistent(self) -> Decoder:
        _heads_divide("decoder", self.width, self.heads)
        return self


class Auxiliary(Strict):
    """The auxiliary classifiers: `weights[i]` belongs to the one on decoder layer `placement[i]` (1 = first)."""

    placement: tuple[Count, ...] = ()
    weights: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Auxiliary:
        if len(self.placement) != len(self.weights):
            raise ValueError(
                f"placement has {len(self.placement)} layers and weights has {len(self.weights)} values; "
                "give one weight for each auxiliary classifier"
            )
        if list(self.placement) != sorted(set(self.placement)):
            raise ValueError(f"placement is {list(self.placement)}, but must be in ascending order, each layer once")
        if self.final_weight <= 0:
            raise ValueError(
                f"weights sum to {sum(self.weights):g}, which leaves the final classifier nothing; keep the sum below 1"
            )
        return self

    @property
    def final_weight(self) -> float:
        """The final classifier's share: all weights sum to 1."""
        return 1.0 - sum(self.weights)


class InterCtc(Strict):
    """InterCTC (arXiv 2102.03216): CTC losses of lower encoder layers too, through the same norm and CTC head."""

    layers: tuple[Count, ...] = Field((), description="encoder layers below the last (1 = first); none turns it off")
    weight: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5, description="share of L_CTC that the mean over these layers has; the last layer has the rest"
    )

    @model_validator(mode="after")
    def _consistent(self) -> InterCtc:
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers is {list(self.layers)}, but must be in ascending order, each layer once")
        return self


class Loss(Strict):
    """L = a L_CTC + (1 - a) sum_i w_i L_i (arXiv 2508.08938); a is `ctc_weight`."""

    ctc_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    ctc_reduction: Literal["mean", "sum"] = Field(
        "mean", description="mean over utterances of NLL / target length, or the plain sum of NLL"
    )
    inter_ctc: InterCtc = InterCtc()
    auxiliary: Auxiliary = Auxiliary()
    label_smoothing: Share = 0.1


class Optimiser(Strict):
    """AdamW, linear warm-up, then decay to zero at the last step."""

    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[Share, Share] = (0.9, 0.98)
    weight_decay: float = Field(1e-6, ge=0)
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    decay: Literal["linear", "cosine", "none"] = "linear"
    clip_norm: float = Field(1.0, gt=0)
    accumulate: Count = Field(1, description="split each batch into this many parts and add their gradients")


class Training(Strict):
    """How long, in what precision, from which seed."""

    epochs: Count = 50
    seed: int = Field(0, description="initial weights, dropout and augmentation")
    precision: Literal["fp32", "bf16"] = "fp32"
    freeze: tuple[Literal["encoder", "decoder", "classifiers", "ctc"], ...] = Field(
        (), description="parts that stay as they start; `decoder` is all of it but its classifiers, `ctc` the CTC head"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if len(set(self.freeze)) < len(self.freeze):
            raise ValueError(f"freeze is {list(self.freeze)}, but must name each part once")
        if len(self.freeze) == 4:
            raise ValueError("freeze names every part, which leaves nothing to train; take one out")
        return self


class Decoding(Strict):
    """How dev and test sets are decoded, joint CTC/attention as arXiv 1609.06773 scores it."""

    beam: Count = 1
    ctc_weight: Share = Field(0.0, description="0 decodes with attention alone")
    batch_seconds: float = Field(120.0, gt=0)
    mixing: Literal["none"] | tuple[float | tuple[float, ...], ...] = Field(
        "none",
        description="weights that the classifiers' logits are summed with in decoding, the final one last: one for "
        "each classifier, or one for each of its tokens; none uses the final classifier alone. Perplexities are "
        "always the final classifier's",
    )


class Recipe(Strict):
    """One training run. `hash` identifies it: equal hashes, equal runs."""

    name: str = Field("recipe", pattern=r"^[A-Za-z0-9._-]+$")
    data: Data
    tokenizer: Tokenizer = Tokenizer()
    augmentation: Augmentation = Augmentation()
    encoder: Encoder = Encoder()
    decoder: Decoder = Decoder()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    training: Training = Training()
    decoding: Decoding = Decoding()
    init_from: str | None = Field(
        None, description="weights to start from: folder of a published checkpoint, of a run, or of a trial"
    )
    init_fingerprint: str | None = Field(None, description="content hash of these weights; others are refused")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        beyond = [layer for layer in self.loss.auxiliary.placement if layer >= self.decoder.layers]
        if beyond:
            raise ValueError(
                f"loss.auxiliary.placement names layer {beyond[0]}, but the decoder has {self.decoder.layers} layers "
                f"and the last one carries the final classifier; choose from 1 to {self.decoder.layers - 1}"
            )
        beyond = [layer for layer in self.loss.inter_ctc.layers if layer >= self.encoder.layers]
        if beyond:
            raise ValueError(
                f"loss.inter_ctc.layers names layer {beyond[0]}, but the encoder has {self.encoder.layers} layers "
                "and the last one has a CTC loss anyway; choose layers below it"
            )
        self._check_mixing()
        return self

    def _check_mixing(self) -> None:
        mixing, tokens = self.decoding.mixing, self.tokenizer.vocabulary
        if mixing == "none":
            return
        classifiers = len(self.loss.auxiliary.placement) + 1
        if len(mixing) != classifiers:
            raise ValueError(
                f"decoding.mixing has {len(mixing)} weights, but there are {classifiers} classifiers, the final one "
                "included; give one for each"
            )
        lengths = {len(one) if isinstance(one, tuple) else None for one in mixing}
        if lengths not in ({None}, {tokens}):
            raise ValueError(
                "decoding.mixing must hold a number for each classifier, or for each classifier as many as there are "
                f"tokens, {tokens}"
            )

    @property
    def hash(self) -> str:
        """First 16 hex digits of SHA-256 over the canonical JSON, name and place of the corpus left out.

        The place is no content: the same corpus in another folder trains the same model; its content is `fingerprint`.
        So with the place of the initial weights, once their fingerprint is known.
        """
        content = self.model_dump(mode="json")
        del content["name"], content["data"]["corpus"]
        if self.init_fingerprint is not None:
            del content["init_from"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
