"""The recipe: everything that one training run needs, as one frozen, validated value.

The number of workers and the device are no part of it: batches are defined over all workers together, so a recipe is
the same run on one worker or on many. The part that defines the model and its loss is in `architecture`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.recipe.architecture import MEL_BINS, Count, DecoderConfig, EncoderConfig, LossConfig, Share, TokenizerConfig
from model.strict import Strict


class DataConfig(Strict):
    """Which corpus, and how its training set is divided into batches."""

    corpus: str = Field(description="folder of the corpus (`decred-study prepare` makes it)")
    fingerprint: str | None = Field(None, description="content hash of the corpus; other content is refused")
    seed: int = Field(0, description="order of the batches; equal in all trials of a study")
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2.0)], ...] = Field(
        (1.0,),
        min_length=1,
        description="speed perturbation: the training set has a copy at each of these speeds",
    )
    batch_seconds: float = Field(60.0, gt=0, description="audio in one optimiser step, over all workers, with padding")
    buckets: Count = Field(8, description="groups of utterances of similar length; a batch is drawn from one group")
    longest_seconds: float = Field(30.0, gt=0, description="longer training utterances are left out, and counted")


class AugmentationConfig(Strict):
    """SpecAugment (arXiv 1904.08779): how many masks, and the widest each may be."""

    time_masks: Annotated[int, Field(ge=0)] = 2
    time_mask_frames: Annotated[int, Field(ge=0)] = 40
    time_mask_share: Share = Field(0.2, description="one time mask covers at most this share of the utterance")
    frequency_masks: Annotated[int, Field(ge=0)] = 2
    frequency_mask_bins: Annotated[int, Field(ge=0, le=MEL_BINS)] = 27


class OptimiserConfig(Strict):
    """AdamW, linear warm-up, then decay to zero at the last step."""

    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[Share, Share] = (0.9, 0.98)
    weight_decay: float = Field(1e-6, ge=0)
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    decay: Literal["linear", "cosine", "none"] = "linear"
    clip_norm: float = Field(1.0, gt=0)
    accumulate: Count = Field(1, description="gradient accumulation: parts that each worker's batch is split into")


class TrainingConfig(Strict):
    """How long, in what precision, from which seed."""

    epochs: Count = 50
    seed: int = Field(0, description="initial weights, dropout and augmentation")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="precision of matrix products in training; weights, losses and scoring are always fp32"
    )
    compile: bool = Field(
        False, description="torch.compile the layers, for GPUs; needs a C compiler, and the first steps take minutes"
    )
    freeze: tuple[Literal["encoder", "decoder", "classifiers", "ctc"], ...] = Field(
        (), description="parts that are not trained; `decoder` is all but its classifiers, `ctc` the CTC head"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> TrainingConfig:
        if len(set(self.freeze)) < len(self.freeze):
            raise ValueError(f"freeze is {list(self.freeze)}, but must name each part once")
        if len(self.freeze) == 4:
            raise ValueError("freeze names every part, which leaves nothing to train; take one out")
        return self


class DecodingConfig(Strict):
    """How dev and test sets are decoded; model/decoding/beam_search.py defines the score."""

    beam: Count = 1
    ctc_weight: Share = Field(0.0, description="0 decodes with attention alone")
    length_penalty: float = Field(
        1.0, description="a hypothesis' score is divided by its length to this power; a higher one favours longer ones"
    )
    batch_seconds: float = Field(120.0, gt=0)
    mixing: Literal["none"] | tuple[float | tuple[float, ...], ...] = Field(
        "none",
        description="weights of the classifiers' logits in decoding, the final classifier last: one weight for each "
        "classifier, or one for each of its tokens; none uses the final classifier alone. Perplexities are always the "
        "final classifier's",
    )


class Recipe(Strict):
    """One training run. `hash` identifies it: equal hashes, equal runs."""

    name: str = Field("recipe", pattern=r"^[A-Za-z0-9._-]+$")
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    init_from: str | None = Field(
        None, description="weights to start from: folder of a published checkpoint, of a run, or of a trial"
    )
    init_fingerprint: str | None = Field(None, description="content hash of these weights; others are refused")

    @model_validator(mode="after")
    def _check_consistency(self) -> Recipe:
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
        lengths = {len(weight) if isinstance(weight, tuple) else None for weight in mixing}
        if lengths not in ({None}, {tokens}):
            raise ValueError(
                "decoding.mixing must hold a number for each classifier, or for each classifier as many as there are "
                f"tokens, {tokens}"
            )

    @property
    def hash(self) -> str:
        """`content_hash` of the recipe."""
        return content_hash(self.model_dump(mode="json"))


def content_hash(content: Mapping[str, Any]) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON of a recipe, without its name and the corpus folder.

    A path is no content: the same corpus in another folder trains the same model, and `data.fingerprint` identifies
    it. The paths of initial weights and tokenizer are left out once their fingerprints are known. Only keys that are
    in `content` count, so that a recipe file of an older version keeps its hash.
    """
    kept = {key: dict(part) if isinstance(part, Mapping) else part for key, part in content.items()}
    kept.pop("name", None)
    kept["data"].pop("corpus", None)
    if kept.get("init_fingerprint") is not None:
        kept.pop("init_from", None)
    if kept.get("tokenizer", {}).get("fingerprint") is not None:
        kept["tokenizer"].pop("file", None)
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
