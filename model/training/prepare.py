"""What all trials of a study share, made before the first: tokenizer and features, kept in the corpus folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from model.corpora.corpus import Corpus, check_trainable, read_corpus
from model.data.batches import TrainingSet
from model.data.features import RunParts, compute_features
from model.data.tokenizer import MOST_SENTENCES, TOKENIZER_FILE, TRAINING_VERSION, Tokenizer, train_tokenizer
from model.data.utterances import load_utterances
from model.errors import UserError
from model.evaluation.dev_part import check_part
from model.lm.files import check_lm
from model.network.checking import check_custom_model
from model.network.making import make_model
from model.recipe.architecture import SAMPLE_RATE
from model.recipe.files import with_values
from model.recipe.hashing import hash_json
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


def load_corpus(recipe: Recipe, to_train: bool = True) -> Corpus:
    """The recipe's corpus. Raises a UserError where its content is not what the recipe was made for.

    `to_train` False accepts a corpus that lacks a set to train on, or one to compare trials by.
    """
    corpus = read_corpus(Path(recipe.data.corpus))
    if to_train:
        check_trainable(corpus)
    expected = recipe.data.fingerprint
    if expected is not None and expected != corpus.fingerprint:
        raise UserError(
            f"corpus {corpus.folder}: its content is {corpus.fingerprint[:12]}, but the recipe was made for "
            f"{expected[:12]}; give the original corpus, or set data.fingerprint to null to train on this one"
        )
    return corpus


class _TrainingText:
    """The text of a corpus that pieces are trained on, read from disk each time."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus, self._sets = corpus, corpus.set_names("train")

    def __len__(self) -> int:
        return sum(self._corpus.sets[name].utterances for name in self._sets)

    def __iter__(self) -> Iterator[str]:
        return (entry.text for name in self._sets for entry in self._corpus.entries(name))


def ensure_tokenizer(recipe: Recipe, corpus: Corpus) -> Path:
    """The tokenizer's file: the one that the recipe names, else the corpus' own, which is trained if it is missing.

    Two processes that train it at the same time write the same file, each whole.
    """
    config, text = recipe.tokenizer, _TrainingText(corpus)
    if config.file is not None:
        return Path(config.file)
    # All that the pieces depend on: the blank is none of them, and a draw of more than all sentences is of all.
    content = config.model_dump(mode="json", exclude={"file": True, "fingerprint": True, "special": {"blank"}})
    content["sentences"] = min(config.sentences or MOST_SENTENCES, len(text))
    digest = hash_json([TRAINING_VERSION, corpus.fingerprint, content])
    path = corpus.folder / "cache" / f"{config.kind}-{config.vocabulary}-{digest}.model"
    if not path.is_file():
        train_tokenizer(text, config, path)
    return path


def load_tokenizer(recipe: Recipe, corpus: Corpus) -> Tokenizer:
    """The tokenizer that a new run of the recipe is trained with.

    Raises a UserError where the recipe's file has other content than the recipe was made for, or other ids.
    """
    path = ensure_tokenizer(recipe, corpus)
    return Tokenizer(path) if recipe.tokenizer.file is None else _load_checked(path, recipe)


def load_run_tokenizer(recipe: Recipe, folder: Path) -> Tokenizer:
    """The tokenizer of the run in `folder`: the copy in it, which needs no corpus.

    Runs of versions before the copy was made are loaded through their corpus.
    """
    path = folder / TOKENIZER_FILE
    return _load_checked(path, recipe) if path.is_file() else load_tokenizer(recipe, load_corpus(recipe))


def _load_checked(path: Path, recipe: Recipe) -> Tokenizer:
    actual, expected = file_fingerprint(path), recipe.tokenizer.fingerprint
    if expected not in (None, actual):
        raise UserError(
            f"{path}: its content is {actual[:12]}, but the recipe was made for {expected[:12]}; give the "
            "original tokenizer, or set tokenizer.fingerprint to null to use this one"
        )
    tokenizer = Tokenizer(path)
    tokenizer.check(recipe.tokenizer)
    return tokenizer
