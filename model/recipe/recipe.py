"""The recipe: everything that one training run needs, as one frozen, validated value.

The number of workers and the device are no part of it: the batch is a global one, so a recipe means the same
run on one worker or on many. What shapes the model and its loss lies in `architecture`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.recipe.architecture import MEL_BINS, Count, Decoder, Encoder, Loss, Share, Tokenizer
from model.strict import Strict


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


class Augmentation(Strict):
    """SpecAugment (arXiv 1904.08779): how many masks, and the widest each may be."""

    time_masks: Annotated[int, Field(ge=0)] = 2
    time_mask_frames: Annotated[int, Field(ge=0)] = 40
    time_mask_share: Share = Field(0.2, description="one time mask covers at most this share of the utterance")
    frequency_masks: Annotated[int, Field(ge=0)] = 2
    frequency_mask_bins: Annotated[int, Field(ge=0, le=MEL_BINS)] = 27


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
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the products in training; weights, losses and scoring are always in fp32"
    )
    compile: bool = Field(
        False, description="torch.compile the layers: for GPUs; the first steps take minutes, and it needs a C compiler"
    )
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
    length_penalty: float = Field(
        1.0, description="a hypothesis' score is divided by its length to this power; more favours longer ones"
    )
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
        """`content_hash` of the recipe."""
        return content_hash(self.model_dump(mode="json"))


def content_hash(content: Mapping[str, Any]) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON of a recipe, name and place of the corpus left out.

    The place is no content: the same corpus in another folder trains the same model; its content is `fingerprint`.
    So with the places of the initial weights and of the tokenizer, once their fingerprints are known. Only keys that
    are there count, so that a file of an older version has the hash that it had.
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
