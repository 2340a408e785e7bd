"""The part of a recipe that says how hypotheses are searched: after each epoch, and in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.recipe.architecture import Count, Share
from model.recipe.hashing import hash_json
from model.strict import Strict

LM_KEYS, ILM_KEYS = ("lm", "lm_fingerprint", "lm_weight"), ("ilm_weight", "ilm_estimator")
MOST_LM_WEIGHT = 2.0
NOT_SEARCH = {"batch_seconds", "utterances", "ilm_estimators"}  # keys that change no hypothesis


IlmEstimator = Literal["zeroed", "mean_context"]  # as model/lm/internal.py defines them


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
    encoder_precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="precision of the encoder's matrix products; bf16 is faster on GPUs and on processors with units "
        "for it, others compute fp32. The search is always fp32",
    )

    @property
    def content(self) -> dict[str, Any]:
        """What decides the hypotheses, as JSON, see `drop_unused_keys`."""
        return drop_unused_keys(self.model_dump(mode="json", exclude=NOT_SEARCH))


class ValidationConfig(SearchConfig):
    """How dev sets are decoded after each epoch, to choose a checkpoint and to compare trials. It should be cheap."""

    utterances: Count | None = Field(
        None,
        description="of all dev sets together, the same ones after every epoch and in all trials, of each set in "
        "proportion to its size; null = all. `dev/wer` is of these, `dev/wer_final` of all",
    )
    ilm_estimators: tuple[IlmEstimator, ...] = Field(
        (),
        description="other estimators of the internal language model than `skipped`; the perplexities of all dev "
        "utterances by them are reported with the chosen weights (`dev/ilm_perplexity_zeroed`), once",
    )


class DecodingConfig(SearchConfig):
    """How the trained model is decoded in the end. It is no part of the training: another decoding trains nothing."""

    mixing: Literal["none"] | tuple[float | tuple[float, ...], ...] = Field(
        "none",
        description="weights of the classifiers' logits in decoding, the final classifier last: one weight for each "
        "classifier, or one for each of its tokens; none uses the final classifier alone. Perplexities are always the "
        "final classifier's",
    )
    lm: str | None = Field(
        None,
        description="a file with a language model for the recipe's tokenizer, as the command `lm` writes it; null uses "
        "none",
    )
    lm_fingerprint: str | None = Field(None, description="content hash of that file; other content is refused")
    lm_weight: Annotated[float, Field(ge=0.0, le=MOST_LM_WEIGHT)] = Field(
        0.0, description="of the language model's log-probability of each token, which is added to its score"
    )
    ilm_weight: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0, description="of the internal language model's log-probability, which is subtracted"
    )
    ilm_estimator: Literal["skipped", "zeroed"] = Field(
        "skipped",
        description="what the internal language model is: the decoder whose cross-attention is skipped, or reads zeros",
    )

    @model_validator(mode="after")
    def _check_language_model(self) -> DecodingConfig:
        for name in ("lm_weight", "lm_fingerprint"):
            if self.lm is None and (value := getattr(self, name)):
                raise ValueError(
                    f"{name} is {value}, but lm names no language model; set lm to the path of one, or leave out {name}"
                )
        return self

    @property
    def fuses(self) -> bool:
        """Whether a language model or the internal one counts in the score of a hypothesis."""
        return self.lm_weight > 0.0 or self.ilm_weight > 0.0

    @property
    def hash(self) -> str:
        """Identifies the decoding: equal hashes, equal hypotheses of the same model."""
        return hash_json(self.content)


def drop_unused_keys(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """A decoding as JSON without keys that change nothing in it, and that decodings of earlier versions do not have:
    those of language models that do not count, and the usual precision. The path of a file whose content is known
    does not count, either."""
    unused = {*(() if decoding.get("lm_weight") else LM_KEYS), *(() if decoding.get("ilm_weight") else ILM_KEYS)}
    unused |= {"lm"} if decoding.get("lm_fingerprint") is not None else set()
    unused |= {"encoder_precision"} if decoding.get("encoder_precision") == "fp32" else set()
    return {key: value for key, value in decoding.items() if key not in unused}


class DecodingSearchConfig(Strict):
    """How the decoding of a trained model is searched on the dev sets, from the recipe's `decoding` on.

    First every CTC weight greedily, from 0.5 outwards, then weights of language models with the best of these, then
    shares of the auxiliary classifiers, then the best of all with larger beams, then length penalties. The search is no
    part of the training.
    """

    share: Share = Field(
        0.1,
        description="of the training's own seconds that the search may take; 0 searches nothing, `decoding` is used",
    )
    ctc_weight: tuple[Share, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8), description="greedily tried")
    lm_weight: tuple[Annotated[float, Field(gt=0.0, le=MOST_LM_WEIGHT)], ...] = Field(
        (),
        description="weights of `decoding.lm`; each is tried greedily without the internal language model and with "
        "each of `ilm_weight`. What is found with one cannot be exported in the published layout",
    )
    ilm_weight: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(
        (),
        description="weights with which the internal language model is subtracted, tried greedily with each of "
        "`lm_weight` and without a language model",
    )
    mixing: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (),
        description="shares of the logits that auxiliary classifiers have, divided as their weights in the loss; tried "
        "greedily with the best CTC weight. What is found with one cannot be exported in the published layout",
    )
    beam: tuple[Annotated[int, Field(ge=2)], ...] = Field((4, 8), description="tried with the two best greedy ones")
    length_penalty: tuple[float, ...] = Field((0.0, 0.5, 2.0), description="tried with the best beam")
