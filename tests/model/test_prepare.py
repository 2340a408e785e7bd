from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from model.errors import UserError
from model.prepare import prepare, tokenizer_of
from model.recipe_files import with_values
from model.tokenizer import train_tokenizer


def test_preparing_makes_everything_once_and_fills_in_the_fingerprint(make_recipe, corpus) -> None:
    recipe = with_values(make_recipe(), {"data.fingerprint": None})
    assert prepare(recipe).data.fingerprint == corpus.fingerprint
    made = {path: path.stat().st_mtime_ns for path in (corpus.folder / "cache").rglob("*") if path.is_file()}
    prepare(recipe)
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_a_training_set_from_which_all_is_left_out_is_refused_before_anything_starts(make_recipe) -> None:
    words = r"no training utterance is left \(24 longer than data.longest_seconds\)"
    with pytest.raises(UserError, match=words):
        prepare(make_recipe({"data.longest_seconds": 0.2}))


def test_what_is_left_out_is_counted_aloud(make_recipe, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepare(make_recipe({"data.longest_seconds": 1.8}))
    assert "training utterances are left out: longer than data.longest_seconds" in caplog.text


def test_a_cache_that_cannot_be_written_is_one_line(make_recipe, corpus, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus.folder, copy, ignore=shutil.ignore_patterns("cache"))
    (copy / "cache").write_text("a file where a folder has to be")
    with pytest.raises(UserError, match=r"cache/.* cannot be written \(Not a directory\)|cache.*\(File exists\)"):
        prepare(make_recipe({"data.corpus": str(copy)}))


@pytest.mark.parametrize("special", [{}, {"bos": 2, "eos": 0, "unk": 1, "pad": 39, "blank": 39}])
def test_text_survives_the_tokenizer_and_labels_end_in_eos(make_recipe, corpus, special: dict[str, int]) -> None:
    recipe = make_recipe({"tokenizer.special": special})
    tokenizer, special = tokenizer_of(recipe, corpus), dict(recipe.tokenizer.special)
    assert tokenizer.vocabulary == 40
    for text in corpus.texts("train"):
        labels = tokenizer.labels(text)
        assert labels[-1] == special["eos"]
        assert not {special["bos"], special["pad"]} & set(labels)
        assert tokenizer.text(labels) == text
    assert tokenizer.text([special["bos"], *tokenizer.labels("one two"), special["pad"], 9, 9]) == "one two"


def test_a_vocabulary_that_the_text_cannot_fill_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer.vocabulary is 500, which the training text cannot give"):
        train_tokenizer(["one two three"], 500, tmp_path / "pieces.model")
