"""What all trials of a study share, made before the first: tokenizer and features, kept in the corpus folder."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from model.corpora.corpus import Corpus
from model.data.batches import TrainingSet
from model.data.features import RunParts, compute_features
from model.data.recipe_inputs import load_corpus, load_tokenizer
from model.data.tokenizer import Tokenizer
from model.data.utterances import load_utterances
from model.errors import UserError
from model.evaluation.dev_part import check_part
from model.lm.files import check_lm
from model.network.checking import check_custom_model
from model.network.making import make_model
from model.recipe.architecture import SAMPLE_RATE
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.recipe.training import RatesConfig
from model.strict import file_fingerprint
from model.training.optimiser import find_rate_factors
from model.weights.initial import check_initial_weights, find_initial_weights


def prepare(recipe: Recipe, run_parts: RunParts | None = None) -> Recipe:
    """Train the tokenizer and compute all features where they are missing: `run_parts` may have other machines do it.

    Returns the recipe with the fingerprints of its corpus, its files and its initial weights. Skipped
    training utterances are counted and logged. Raises a UserError when none is left.
    """
    refuse_summed_ctc(recipe)
    custom = check_custom_model(recipe)
    refuse_unmatched_rates(recipe)
    corpus = load_corpus(recipe)
    check_part(recipe, corpus)
    tokenizer = load_tokenizer(recipe, corpus)
    for name, info in corpus.sets.items():
        if info.role != "train":
            refuse_long_recordings(corpus, name, recipe.data.longest_scored_seconds)
            compute_features(corpus, name, 1.0, run_parts)
            load_utterances(corpus, [(name, 1.0)], tokenizer)
        elif not recipe.augmentation.changes_waveforms:
            for speed in recipe.data.speeds:
                compute_features(corpus, name, speed, run_parts)
    share = recipe.training.data_share
    for reason, count in TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer, share).skipped.items():
        if count:
            logging.getLogger(__name__).warning("%d training utterances are skipped: %s", count, reason)
    values = {"data.fingerprint": corpus.fingerprint} | _tokenizer_values(recipe)
    values |= custom | _initial_values(recipe, tokenizer)
    return with_values(recipe, values | _language_model_values(recipe, tokenizer))


def refuse_summed_ctc(recipe: Recipe) -> None:
    """The published code sums CTC over the batch of one device, so that its weight grows with what a device holds."""
    if recipe.loss.ctc_reduction == "sum":
        raise UserError(
            "loss.ctc_reduction is sum, which weighs CTC by the utterances of a batch and so depends on how many "
            "devices share it; set it to mean to train (published checkpoints can be scored with either)"
        )


def refuse_unmatched_rates(recipe: Recipe) -> None:
    """A UserError where `optimiser.rates` names what the model does not have; without memory for its weights."""
    if recipe.optimiser.rates != RatesConfig():
        with torch.device("meta"):
            find_rate_factors([name for name, _ in make_model(recipe).named_parameters()], recipe.optimiser.rates)


def refuse_long_recordings(corpus: Corpus, set_name: str, longest: float) -> None:
    """A UserError where a dev or test set holds a recording that is too long to score: it would end a training last."""
    too_long = [entry for entry in corpus.entries(set_name) if entry.samples > longest * SAMPLE_RATE]
    if too_long:
        s = "s are" if len(too_long) > 1 else " is"
        entry = max(too_long, key=lambda entry: entry.samples)
        raise UserError(
            f"corpus {corpus.folder}, set {set_name}: {len(too_long)} recording{s} longer than "
            f"data.longest_scored_seconds, {longest:g} s, the longest is {entry.id} with "
            f"{entry.samples / SAMPLE_RATE:.1f} s; cut them at silences, or raise the limit if memory allows"
        )


def _tokenizer_values(recipe: Recipe) -> dict[str, str]:
    """Absolute path and fingerprint of the tokenizer's file."""
    if recipe.tokenizer.file is None:
        return {}
    path = Path(recipe.tokenizer.file).resolve()
    return {"tokenizer.file": str(path), "tokenizer.fingerprint": file_fingerprint(path)}


def _language_model_values(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, str]:
    """Absolute path and fingerprint of each language model; one that could not be used in the end is refused now."""
    values: dict[str, str] = {}
    for key, decoding in (("decoding", recipe.decoding), ("test_decoding", recipe.test_decoding)):
        if decoding is not None and decoding.lm is not None:
            path = Path(decoding.lm).resolve()
            fingerprint = check_lm(path, tokenizer, decoding.lm_fingerprint)
            values |= {f"{key}.lm": str(path), f"{key}.lm_fingerprint": fingerprint}
    return values


def _initial_values(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, str]:
    """Absolute path and fingerprint of the initial weights, so that workers in other folders load the same ones.

    A UserError where a new run could not start from them.
    """
    if recipe.init_from is None:
        return {}
    values = {"init_from": str(Path(recipe.init_from).resolve())}
    recipe = with_values(recipe, values)
    found = find_initial_weights(recipe)
    if found is None:
        return values
    check_initial_weights(recipe, found, tokenizer)
    return values | {"init_fingerprint": found.fingerprint}
