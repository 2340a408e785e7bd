"""What all trials of a study share, made once before the first: tokenizer and features, kept in the corpus folder."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from model.data.batches import TrainingSet
from model.data.corpus import Corpus, read_corpus
from model.data.features import feature_store
from model.data.tokenizer import Tokenizer, train_tokenizer
from model.errors import UserError
from model.recipe.architecture import SpecialTokens
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from model.weights.initial import fingerprint_weights


def prepare(recipe: Recipe) -> Recipe:
    """Train the tokenizer and compute all features where they are missing.

    The recipe comes back with the fingerprints of its corpus and of its initial weights. Training utterances that it
    leaves out are counted aloud; a UserError when none is left.
    """
    corpus = corpus_of(recipe)
    tokenizer = tokenizer_of(recipe, corpus)
    for name, info in corpus.sets.items():
        if info.role != "train":
            feature_store(corpus, name)
    for reason, count in TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer).left_out.items():
        if count:
            logging.getLogger(__name__).warning("%d training utterances are left out: %s", count, reason)
    return with_values(recipe, {"data.fingerprint": corpus.fingerprint} | _tokenizer_file(recipe) | _initial(recipe))


def _tokenizer_file(recipe: Recipe) -> dict[str, str]:
    """Place and fingerprint of the tokenizer's file, as with the initial weights."""
    if recipe.tokenizer.file is None:
        return {}
    path = Path(recipe.tokenizer.file).resolve()
    return {"tokenizer.file": str(path), "tokenizer.fingerprint": file_fingerprint(path)}


def _initial(recipe: Recipe) -> dict[str, str]:
    """Place and fingerprint of the initial weights, so that workers find these elsewhere and no others."""
    if recipe.init_from is None:
        return {}
    folder = Path(recipe.init_from).resolve()
    return {"init_from": str(folder), "init_fingerprint": recipe.init_fingerprint or fingerprint_weights(folder)}


def corpus_of(recipe: Recipe) -> Corpus:
    """The recipe's corpus; other content than the recipe was made for is a UserError."""
    corpus = read_corpus(Path(recipe.data.corpus))
    wanted = recipe.data.fingerprint
    if wanted is not None and wanted != corpus.fingerprint:
        raise UserError(
            f"corpus {corpus.folder}: its content is {corpus.fingerprint[:12]}, but the recipe was made for "
            f"{wanted[:12]}; give the original corpus, or set data.fingerprint to null to train on this one"
        )
    return corpus


def tokenizer_path(recipe: Recipe, corpus: Corpus) -> Path:
    """The tokenizer's file: the one that the recipe names, else the corpus' own, trained first where it is missing."""
    if recipe.tokenizer.file is not None:
        return Path(recipe.tokenizer.file)
    texts = [text for name in corpus.names("train") for text in corpus.texts(name)]
    special = recipe.tokenizer.special.model_copy(update={"blank": None})  # no piece changes with the blank
    content = "\n".join(texts) if special == SpecialTokens() else "\n".join([*texts, special.model_dump_json()])
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    path = corpus.folder / "cache" / f"unigram-{recipe.tokenizer.vocabulary}-{digest}.model"
    if not path.is_file():
        train_tokenizer(texts, recipe.tokenizer.vocabulary, path, special)
    return path


def tokenizer_of(recipe: Recipe, corpus: Corpus) -> Tokenizer:
    """The recipe's tokenizer; a file with other content than the recipe was made for, or other ids, is a UserError."""
    path, wanted = tokenizer_path(recipe, corpus), recipe.tokenizer
    if wanted.file is None:
        return Tokenizer(path)
    found = file_fingerprint(path)
    if wanted.fingerprint not in (None, found):
        raise UserError(
            f"{path}: its content is {found[:12]}, but the recipe was made for {wanted.fingerprint[:12]}; give the "
            "original tokenizer, or set tokenizer.fingerprint to null to use this one"
        )
    tokenizer = Tokenizer(path)
    tokenizer.check(wanted)
    return tokenizer
