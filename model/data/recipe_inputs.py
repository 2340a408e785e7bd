"""The corpus and the tokenizer that a recipe names. Neither needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model.corpora.corpus import Corpus, check_trainable, read_corpus
from model.data.tokenizer import MOST_SENTENCES, TOKENIZER_FILE, TRAINING_VERSION, Tokenizer, train_tokenizer
from model.errors import UserError
from model.recipe.hashing import hash_json
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint


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
