from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.data.recipe_inputs import ensure_tokenizer, load_corpus, load_run_tokenizer, load_tokenizer
from model.data.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer
from model.errors import UserError
from model.recipe.architecture import TokenizerConfig
from model.recipe.files import with_values
from model.training.prepare import prepare


@pytest.mark.parametrize("special", [{}, {"bos": 2, "eos": 0, "unk": 1, "pad": 39, "blank": 39}])
def test_text_survives_the_tokenizer_and_labels_end_in_eos(make_recipe, corpus, special: dict[str, int]) -> None:
    recipe = make_recipe({"tokenizer.special": special})
    tokenizer, special = load_tokenizer(recipe, corpus), dict(recipe.tokenizer.special)
    assert tokenizer.vocabulary == 40
    for text in corpus.texts("train"):
        labels = tokenizer.encode(text)
        assert labels[-1] == special["eos"]
        assert not {special["bos"], special["pad"]} & set(labels)
        assert tokenizer.decode(labels) == text
    assert tokenizer.decode([special["bos"], *tokenizer.encode("one two"), special["pad"], 9, 9]) == "one two"


@pytest.mark.parametrize(
    ("values", "other"),
    [
        ({"kind": "bpe"}, True),
        ({"vocabulary": 41}, True),
        ({"vocabulary": 295, "byte_fallback": True}, True),
        ({"sentences": 23}, True),
        ({"special": {"unk": 3, "pad": 2}}, True),
        ({"sentences": 24}, False),
        ({"special": {"blank": 39}}, False),
    ],
)
def test_a_trained_tokenizer_s_file_is_named_after_all_that_its_pieces_depend_on(
    make_recipe, corpus, values: dict[str, Any], other: bool
) -> None:
    usual, recipe = make_recipe(), make_recipe({f"tokenizer.{key}": value for key, value in values.items()})
    path = ensure_tokenizer(recipe, corpus)
    assert (path != ensure_tokenizer(usual, corpus)) is other
    assert path.name.startswith(f"{recipe.tokenizer.kind}-{recipe.tokenizer.vocabulary}-")
    pieces = load_tokenizer(recipe, corpus)
    assert (pieces.content != load_tokenizer(usual, corpus).content) is other
    assert all(pieces.decode(pieces.encode(text)) == text for text in corpus.texts("train"))


def test_a_tokenizer_of_another_way_of_training_is_not_taken_from_the_cache(
    make_recipe, corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ensure_tokenizer(make_recipe(), corpus)
    monkeypatch.setattr("model.data.recipe_inputs.TRAINING_VERSION", 99)
    assert ensure_tokenizer(make_recipe(), corpus) != path


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_that_the_corpus_cannot_fill_is_one_line(make_recipe, kind: str) -> None:
    with pytest.raises(UserError, match=r"^tokenizer.vocabulary is 5000, which the training text cannot give: it has "):
        prepare(make_recipe({"tokenizer.vocabulary": 5000, "tokenizer.kind": kind}))


@pytest.fixture
def own_pieces(made_up_text, tmp_path: Path) -> Path:
    """A tokenizer of the recipe's size that no training on the corpus would give, since its text is another."""
    path = tmp_path / "own.model"
    train_tokenizer(made_up_text(1), TokenizerConfig(vocabulary=40), path)
    return path


def test_a_tokenizer_file_is_used_as_it_is_and_known_by_its_content(make_recipe, own_pieces: Path) -> None:
    recipe = prepare(make_recipe({"tokenizer.file": str(own_pieces)}))
    trained = load_tokenizer(make_recipe(), load_corpus(recipe))
    assert load_tokenizer(recipe, load_corpus(recipe)).encode("belu") != trained.encode("belu")
    moved = own_pieces.rename(own_pieces.with_name("moved.model"))
    assert with_values(recipe, {"tokenizer.file": str(moved)}).hash == recipe.hash != make_recipe().hash


def test_another_tokenizer_than_the_recipe_was_made_for_is_refused(make_recipe, made_up_text, own_pieces: Path) -> None:
    recipe = prepare(make_recipe({"tokenizer.file": str(own_pieces)}))
    train_tokenizer(made_up_text(2), TokenizerConfig(vocabulary=40), own_pieces)
    with pytest.raises(UserError, match=r"own.model: its content is \w+, but the recipe was made for \w+; give the"):
        load_tokenizer(recipe, load_corpus(recipe))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.vocabulary": 41}, "its vocabulary is 40, but the recipe's tokenizer.vocabulary is 41"),
        (
            {"tokenizer.special": {"eos": 3, "pad": 1}},
            "its special.eos is 1, but the recipe's tokenizer.special.eos is 3",
        ),
    ],
)
def test_a_tokenizer_whose_ids_are_not_the_recipe_s_is_refused(make_recipe, own_pieces: Path, change, message) -> None:
    with pytest.raises(UserError, match=message):
        prepare(make_recipe({"tokenizer.file": str(own_pieces)} | change))


def test_a_run_s_tokenizer_is_checked_against_its_recipe(make_recipe, own_pieces: Path, run_folder: Path) -> None:
    recipe = prepare(make_recipe({"tokenizer.file": str(own_pieces)}))
    run_folder.mkdir()
    own_pieces.rename(run_folder / TOKENIZER_FILE)
    assert load_run_tokenizer(recipe, run_folder).encode("belu")
    with pytest.raises(UserError, match=r"run/tokenizer.model: its vocabulary is 40, but the recipe's .* is 41"):
        load_run_tokenizer(with_values(recipe, {"tokenizer.vocabulary": 41}), run_folder)
    (run_folder / TOKENIZER_FILE).write_bytes((run_folder / TOKENIZER_FILE).read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"run/tokenizer.model: its content is \w+, but the recipe was made for"):
        load_run_tokenizer(recipe, run_folder)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), (b"junk", "it is damaged"), (b"", "it is empty")]
)
def test_a_file_that_is_no_tokenizer_is_one_line(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "pieces.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"pieces.model: holds no SentencePiece model \({reason}"):
        Tokenizer(path)
