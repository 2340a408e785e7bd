"""The recipe: everything that one training run needs, as one frozen, validated value.

The number of workers and the device are no part of it: batches are defined over all workers together, so a recipe is
the same run on one worker or on many. The parts that define the model and its loss, the training, and the decoding are
in `architecture`, `training` and `decoding`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from model.recipe.architecture import MEL_BINS, Count, DecoderConfig, EncoderConfig, LossConfig, Share, TokenizerConfig
from model.recipe.custom_model import CustomModelConfig
from model.recipe.decoding import DecodingConfig, DecodingSearchConfig, ValidationConfig
from model.recipe.hashing import content_hash
from model.recipe.initialisation import InitialisationConfig
from model.recipe.training import OptimiserConfig, TrainingConfig
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
    custom_model: CustomModelConfig = CustomModelConfig()
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
    initialisation: InitialisationConfig = InitialisationConfig()

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
        self._check_custom_model()
        if self.init_from is None and (changed := self.initialisation.describe_changes()):
            raise ValueError(f"{changed}, but init_from names no weights; set init_from, or leave initialisation out")
        if self.decoding_search.lm_weight and self.decoding.lm is None:
            raise ValueError(
                f"decoding_search.lm_weight is {list(self.decoding_search.lm_weight)}, but decoding.lm names no "
                "language model; set it to the path of one, or leave lm_weight out"
            )
        self._check_mixing("decoding", self.decoding)
        if self.test_decoding is not None:
            self._check_mixing("test_decoding", self.test_decoding)
        return self

    def _check_custom_model(self) -> None:
        if self.custom_model.factory is None:
            return
        ours_alone = {
            "loss.inter_ctc.layers": self.loss.inter_ctc.layers,
            "training.compile": self.training.compile,
            "training.freeze": self.training.freeze,
            "encoder.layer_drop": self.encoder.layer_drop,
            "decoder.layer_drop": self.decoder.layer_drop,
            "validation.ilm_estimators": self.validation.ilm_estimators,
        }
        for key, value in ours_alone.items():
            if value:
                raise ValueError(
                    f"{key} is {value}, which knows the layers of the project's own network alone; leave it out, and "
                    "do the same in the function of custom_model.factory"
                )
        for key, decoding in (("decoding", self.decoding), ("test_decoding", self.test_decoding)):
            if decoding is not None and decoding.ilm_estimator == "zeroed":
                raise ValueError(
                    f"{key}.ilm_estimator is zeroed, which knows the project's own cross-attention alone; "
                    "set it to skipped, which is custom_model's decoder without memory"
                )

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
