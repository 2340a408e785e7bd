"""The recipe: everything that one training run needs, as one frozen, validated value.

The number of workers and the device are no part of it: batches are defined over all workers together, so a recipe is
the same run on one worker or on many. The part that defines the model and its loss is in `architecture`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.recipe.architecture import MEL_BINS, Count, DecoderConfig, EncoderConfig, LossConfig, Share, TokenizerConfig
from model.recipe.hashing import content_hash, hash_json
from model.strict import Strict

_DECODING_BEFORE_0_3 = {"beam", "ctc_weight", "length_penalty", "batch_seconds", "mixing"}


Chance = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveSeconds = Annotated[float, Field(gt=0.0, le=10.0)]


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
    label_buckets: Count = Field(1, description="groups of similar numbers of labels that each is divided into")
    temperature: Annotated[float, Field(ge=1.0)] = Field(
        1.0,
        description="1: each training utterance is seen once in a pass over the data; higher ones even out how much "
        "of a pass each training set has, in proportion to its seconds to the power of 1 / temperature",
    )
    readers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="processes of each worker that read batches ahead; 0 for a thread; null = a thread where features "
        "are cached, and two processes where waveforms are changed",
    )
    longest_seconds: float = Field(30.0, gt=0, description="longer training utterances are left out, and counted")
    longest_scored_seconds: float = Field(
        60.0, gt=0, description="a longer recording in a dev or test set is refused before the start; cut it"
    )


class AugmentationConfig(Strict):
    """SpecAugment (arXiv 1904.08779): how many masks, and the widest each may be; and changes of the waveform.

    With one of the latter, the features of training utterances are computed again in each pass, in other processes.
    """

    time_masks: Annotated[int, Field(ge=0)] = Field(2, description="of an utterance")
    time_mask_frames: Annotated[int, Field(ge=0)] = Field(40, description="widest time mask, in frames of 10 ms")
    time_mask_share: Share = Field(0.2, description="one time mask covers at most this share of the utterance")
    frequency_masks: Annotated[int, Field(ge=0)] = Field(2, description="of an utterance")
    frequency_mask_bins: Annotated[int, Field(ge=0, le=MEL_BINS)] = Field(27, description="widest one, in mel bins")
    noise_share: Chance = Field(0.0, description="of utterances that get noise, from white to brown")
    noise_snr: tuple[float, float] = Field((10.0, 40.0), description="[lowest, highest] dB of speech over noise")
    reverberation_share: Chance = Field(0.0, description="of utterances that are put into a room")
    reverberation_seconds: tuple[PositiveSeconds, PositiveSeconds] = Field(
        (0.1, 0.6), description="[shortest, longest] in which its sound falls by 60 dB"
    )
    gain_share: Chance = Field(0.0, description="of utterances that are made louder or softer, and clipped")
    gain_db: tuple[float, float] = Field((0.0, 12.0), description="[lowest, highest] gain in dB")

    @model_validator(mode="after")
    def _check_ranges(self) -> AugmentationConfig:
        for name in ("noise_snr", "reverberation_seconds", "gain_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low:g}, {high:g}], but must be [low, high]")
        return self

    @property
    def changes_waveforms(self) -> bool:
        return max(self.noise_share, self.reverberation_share, self.gain_share) > 0.0


class OptimiserConfig(Strict):
    """AdamW, linear warm-up to the learning rate, then decay to zero at the last step.

    Matrices alone are decayed by `weight_decay`: no biases, no norms, no position biases of the attention.
    """

    learning_rate: float = Field(1e-3, gt=0, description="after the warm-up, the highest")
    betas: tuple[Share, Share] = Field((0.9, 0.98), description="of AdamW's moving averages")
    weight_decay: float = Field(1e-6, ge=0, description="of matrices")
    warmup: Share = Field(0.1, description="share of the training in which the rate rises; decay fills the rest")
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="optimiser steps in which the rate rises, instead of a share; decay goes on beside it, so the peak "
        "is lower the longer that takes (train/peak_learning_rate)",
    )
    decay: Literal["linear", "cosine", "none"] = Field("linear", description="of the rate, to zero at the last step")
    clip_norm: float = Field(1.0, gt=0, description="longest gradient; longer ones are scaled down to it")
    accumulate: Count = Field(1, description="gradient accumulation: parts that each worker's batch is split into")


class TrainingConfig(Strict):
    """How long, on how much of the data, in what precision, from which seed, and which weights are kept in the end."""

    epochs: Count = Field(50, description="length of the training")
    epoch_steps: Count | None = Field(
        None,
        description="optimiser steps in an epoch, which goes on in the data where the last one ended; null = one pass "
        "over the data. Validation, checkpoints and early stopping follow epochs",
    )
    epoch_share: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="the same as a share of the steps that a pass takes: 0.1 validates ten times in a pass"
    )
    data_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the training utterances that is used, the same ones in all trials of a study"
    )
    choose: Literal["best", "last", "average_best", "average_last", "ema"] = Field(
        "best",
        description="the weights that are kept: of the epoch with the lowest dev/wer, of the last one, their mean over "
        "the `average` best or last epochs, or the moving average over all steps",
    )
    average: Count = Field(5, description="epochs in an average")
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.999, description="of the moving average: what a step leaves of it"
    )
    seed: int = Field(0, description="initial weights, dropout and augmentation")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="precision of matrix products in training; weights, losses and scoring are always fp32"
    )
    skips_in_a_row: Count = Field(
        5, description="batches in a row with a loss or gradient that is not finite, and hence skipped, end training"
    )
    skips_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.05, description="so does a larger share of an epoch's batches; one is allowed, unless this is 0"
    )
    compile: bool = Field(
        False, description="torch.compile the layers, for GPUs; needs a C compiler, and the first steps take minutes"
    )
    freeze: tuple[Literal["encoder", "decoder", "classifiers", "ctc"], ...] = Field(
        (), description="parts that are not trained; `decoder` is all but its classifiers, `ctc` the CTC head"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> TrainingConfig:
        if self.epoch_steps is not None and self.epoch_share is not None:
            raise ValueError(
                f"epoch_steps is {self.epoch_steps} and epoch_share is {self.epoch_share:g}, but an epoch has one "
                "length; set one of them to null"
            )
        if len(set(self.freeze)) < len(self.freeze):
            raise ValueError(f"freeze is {list(self.freeze)}, but must name each part once")
        if len(self.freeze) == 4:
            raise ValueError("freeze names every part, which leaves nothing to train; take one out")
        return self


class SearchConfig(Strict):
    """How hypotheses are searched; model/decoding/beam_search.py defines the score."""

    beam: Count = Field(1, description="hypotheses that are kept for an utterance; 1 is greedy")
    ctc_weight: Share = Field(0.3, description="0 decodes with attention alone")
    length_penalty: float = Field(
        1.0, description="a hypothesis' score is divided by its length to this power; a higher one favours longer ones"
    )
    tokens_per_second: Literal["learnt", "none"] | Annotated[float, Field(gt=0)] = Field(
        "learnt",
        description="a hypothesis has at most so many tokens a second of audio, and a few more; learnt: a quarter "
        "above the densest training utterance; none: one for each encoder frame",
    )
    batch_seconds: float = Field(120.0, gt=0, description="padded audio decoded together, by each worker")


class ValidationConfig(SearchConfig):
    """How dev sets are decoded after each epoch, to choose a checkpoint and to compare trials. It should be cheap."""


class DecodingConfig(SearchConfig):
    """How the trained model is decoded in the end. It is no part of the training: another decoding trains nothing."""

    mixing: Literal["none"] | tuple[float | tuple[float, ...], ...] = Field(
        "none",
        description="weights of the classifiers' logits in decoding, the final classifier last: one weight for each "
        "classifier, or one for each of its tokens; none uses the final classifier alone. Perplexities are always the "
        "final classifier's",
    )

    @property
    def hash(self) -> str:
        """Identifies the decoding: equal hashes, equal hypotheses of the same model."""
        return hash_json(self.model_dump(mode="json", exclude={"batch_seconds"}))


class DecodingSearchConfig(Strict):
    """How the decoding of a trained model is searched on the dev sets, from the recipe's `decoding` on.

    First every CTC weight greedily, from 0.5 outwards, then shares of the auxiliary classifiers, then the best of both
    with larger beams, then length penalties. The search is no part of the training.
    """

    share: Share = Field(
        0.1,
        description="of the training's own seconds that the search may take; 0 searches nothing, `decoding` is used",
    )
    ctc_weight: tuple[Share, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8), description="greedily tried")
    mixing: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (),
        description="shares of the logits that auxiliary classifiers have, divided as their weights in the loss; tried "
        "greedily with the best CTC weight. What is found with one cannot be exported in the published layout",
    )
    beam: tuple[Annotated[int, Field(ge=2)], ...] = Field((4, 8), description="tried with the two best greedy ones")
    length_penalty: tuple[float, ...] = Field((0.0, 0.5, 2.0), description="tried with the best beam")


class Recipe(Strict):
    """One training run, and how its model is decoded.

    `hash` identifies the training: equal hashes, equal runs. `decoding`, `decoding_search` and `test_decoding` are no
    part of it.
    """

    name: str = Field("recipe", pattern=r"^[A-Za-z0-9._-]+$", description="what it is called in messages")
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    decoding: DecodingConfig = DecodingConfig()
    decoding_search: DecodingSearchConfig = DecodingSearchConfig()
    test_decoding: DecodingConfig | None = Field(
        None, description="of the test sets; null = as the dev sets in the end"
    )
    init_from: str | None = Field(
        None, description="weights to start from: folder of a published checkpoint, of a run, or of a trial"
    )
    init_fingerprint: str | None = Field(None, description="content hash of these weights; others are refused")

    @model_validator(mode="before")
    @classmethod
    def _add_validation(cls, content: Any) -> Any:
        """Recipes of versions before 0.3 were validated with their `decoding`."""
        if not isinstance(content, dict) or "validation" in content or not isinstance(content.get("decoding"), dict):
            return content
        written = content["decoding"]
        if not written.keys() >= _DECODING_BEFORE_0_3:
            return content
        validation = {key: written[key] for key in _DECODING_BEFORE_0_3 - {"mixing"}} | {"tokens_per_second": "none"}
        decoding = written | {"tokens_per_second": written.get("tokens_per_second", "none")}
        return content | {"validation": validation, "decoding": decoding}

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
        self._check_mixing("decoding", self.decoding)
        if self.test_decoding is not None:
            self._check_mixing("test_decoding", self.test_decoding)
        return self

    def _check_mixing(self, key: str, decoding: DecodingConfig) -> None:
        mixing, tokens = decoding.mixing, self.tokenizer.vocabulary
        if mixing == "none":
            return
        classifiers = len(self.loss.auxiliary.placement) + 1
        if len(mixing) != classifiers:
            raise ValueError(
                f"{key}.mixing has {len(mixing)} weights, but there are {classifiers} classifiers, the final one "
                "included; give one for each"
            )
        lengths = {len(weight) if isinstance(weight, tuple) else None for weight in mixing}
        if lengths not in ({None}, {tokens}):
            raise ValueError(
                f"{key}.mixing must hold a number for each classifier, or for each classifier as many as there are "
                f"tokens, {tokens}"
            )

    @property
    def hash(self) -> str:
        """`content_hash` of the recipe: what identifies the training."""
        return content_hash(self.model_dump(mode="json"))
