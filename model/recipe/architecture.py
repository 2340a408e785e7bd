"""The part of a recipe that defines the model and its loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.strict import Strict

SAMPLE_RATE = 16_000  # Hz
MEL_BINS = 80
BYTES = 256

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
TokenId = Annotated[int, Field(ge=0)]


def _heads_divide(part: str, width: int, heads: int) -> None:
    if width % (2 * heads):
        raise ValueError(f"{part}.width is {width} with {heads} heads, but must be a multiple of {2 * heads}")


class SpecialTokens(Strict):
    """Ids of the tokens that are not text; published checkpoints have other ids than a new tokenizer."""

    bos: TokenId = Field(0, description="the decoder's first input")
    eos: TokenId = Field(1, description="ends a hypothesis")
    unk: TokenId = Field(2, description="a piece that the vocabulary lacks")
    pad: TokenId = Field(3, description="fills shorter sequences of a batch")
    blank: TokenId | None = Field(
        None, description="the CTC blank: a token of the vocabulary; null adds a class for it, the last"
    )


class TokenizerConfig(Strict):
    """SentencePiece pieces: trained on the training text, which is taken as it is normalised, or those in a file."""

    vocabulary: Annotated[int, Field(ge=8)] = Field(500, description="number of pieces, with the four special ones")
    kind: Literal["unigram", "bpe"] = Field("unigram", description="how pieces are found in the text")
    byte_fallback: bool = Field(
        False,
        description="characters that are not in the training text are spelt in bytes, 256 of the pieces, not unknown",
    )
    sentences: Count | None = Field(
        None, description="how many sentences pieces are trained on at most, drawn by their hashes; null is 2,000,000"
    )
    file: str | None = Field(
        None, description="a SentencePiece model to use as it is, such as a published checkpoint's; null trains one"
    )
    fingerprint: str | None = Field(None, description="content hash of that file; other content is refused")
    special: SpecialTokens = SpecialTokens()

    @model_validator(mode="after")
    def _check_consistency(self) -> TokenizerConfig:
        for name, token in self.special:
            if token is not None and token >= self.vocabulary:
                raise ValueError(
                    f"tokenizer.special.{name} is {token}, but must be below tokenizer.vocabulary, {self.vocabulary}"
                )
        if self.byte_fallback and self.vocabulary <= BYTES:
            raise ValueError(
                f"tokenizer.vocabulary is {self.vocabulary}, but tokenizer.byte_fallback takes {BYTES} pieces for the "
                "bytes alone; raise the vocabulary, or set byte_fallback to false"
            )
        for name in ("kind", "byte_fallback", "sentences"):
            value = getattr(self, name)
            if self.file is not None and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"tokenizer.{name} is {value}, which is for pieces that are trained, but tokenizer.file names a "
                    f"model that has its pieces; leave out {name} or file"
                )
        return self


class EncoderConfig(Strict):
    """E-Branchformer (arXiv 2210.00077) behind two stride-2 convolutions."""

    layers: Count = Field(12, description="E-Branchformer layers")
    width: Count = Field(256, description="of the states")
    heads: Count = Field(4, description="of self-attention")
    feed_forward: Count = Field(1024, description="inner width of the two feed-forward parts of a layer")
    cgmlp: Annotated[int, Field(ge=2, multiple_of=2)] = Field(
        1024, description="inner width of the convolutional gating MLP"
    )
    cgmlp_kernel: Annotated[int, Field(ge=1)] = Field(31, description="frames that its convolution sees; odd")
    merge_kernel: Annotated[int, Field(ge=1)] = Field(
        31, description="frames that the convolution sees which merges the two branches; odd"
    )
    channels: Count = Field(256, description="channels of the two subsampling convolutions")
    convolution_padding: Literal[0, 1] = Field(
        0, description="zeros around the input of the subsampling convolutions; 1 for some published checkpoints"
    )
    padding: Literal["invariant", "published"] = Field(
        "invariant",
        description="whether an utterance's states depend on how much padding its batch has: invariant, they never do; "
        "published, they do as in published checkpoints, whose convolutions also read padded frames",
    )
    dropout: Share = Field(0.1, description="probability of dropout, everywhere in the encoder")
    layer_drop: Share = Field(
        0.0, description="probability that a step of the training skips a layer (LayerDrop, arXiv 1909.11556)"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> EncoderConfig:
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


class DecoderConfig(Strict):
    """Pre-norm Transformer decoder with cross-attention."""

    layers: Count = Field(6, description="Transformer layers; the last one carries the final classifier")
    width: Count = Field(256, description="of the states")
    heads: Count = Field(4, description="of self-attention and of cross-attention")
    feed_forward: Count = Field(1024, description="inner width of the feed-forward part of a layer")
    project_encoder: bool = Field(
        False, description="a linear layer from encoder states to the decoder's width, as in published checkpoints"
    )
    dropout: Share = Field(0.1, description="probability of dropout, everywhere in the decoder")
    layer_drop: Share = Field(
        0.0,
        description="probability that a step of the training skips a layer; a classifier on it then reads the layer "
        "below",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> DecoderConfig:
        _heads_divide("decoder", self.width, self.heads)
        return self


class AuxiliaryConfig(Strict):
    """The auxiliary classifiers: `weights[i]` is the loss weight of the classifier on decoder layer `placement[i]`.

    Layer 1 is the first. The last layer has the final classifier, which gets the rest of the weight.
    """

    placement: tuple[Count, ...] = Field((), description="decoder layers with an auxiliary classifier (1 = first)")
    weights: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (), description="w_i of each of them; the final classifier has the rest of 1"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> AuxiliaryConfig:
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
        """The final classifier's loss weight: all weights sum to 1."""
        return 1.0 - sum(self.weights)


class InterCtcConfig(Strict):
    """InterCTC (arXiv 2102.03216): CTC losses of lower encoder layers, through the same norm and CTC head."""

    layers: tuple[Count, ...] = Field((), description="encoder layers below the last (1 = first); none turns it off")
    weight: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5, description="weight of the mean over these layers in L_CTC; the last layer has the rest"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> InterCtcConfig:
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers is {list(self.layers)}, but must be in ascending order, each layer once")
        return self


class LossScheduleConfig(Strict):
    """Weights of the loss that change during training, between two shares of it; before, they are those of `loss`."""

    shape: Literal["linear", "cosine"] = Field("linear", description="of the change")
    start: Share = Field(0.0, description="share of the training after which the change begins")
    stop: Annotated[float, Field(gt=0.0, le=1.0)] = Field(1.0, description="share of it after which it is complete")
    auxiliary: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        1.0,
        description="what the weights of auxiliary classifiers are multiplied by in the end; the final classifier gets "
        "what they give up",
    )
    ctc_weight: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="a in the end; null leaves it as it is"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> LossScheduleConfig:
        if self.start >= self.stop:
            raise ValueError(
                f"start is {self.start:g} and stop is {self.stop:g}, but the change has to begin before it is "
                "complete; lower start or raise stop"
            )
        return self


class LossConfig(Strict):
    """L = a L_CTC + (1 - a) sum_i w_i L_i (arXiv 2508.08938); a is `ctc_weight`."""

    ctc_weight: Annotated[float, Field(ge=0.0, le=1.0)] = Field(0.3, description="a, of the CTC loss")
    ctc_reduction: Literal["mean", "sum"] = Field(
        "mean", description="mean over utterances of NLL / target length, or the plain sum of NLL"
    )
    inter_ctc: InterCtcConfig = InterCtcConfig()
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()
    schedule: LossScheduleConfig = LossScheduleConfig()
    label_smoothing: Share = Field(0.1, description="of every classifier's cross-entropy, not of CTC")
