"""Rows for the pieces of one tokenizer, from those of another one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.recipe.architecture import SpecialTokens
from model.weights.piece_rows import Vocabulary, copy_rows, match_rows

WORDS = [f"word{number}" for number in range(12)]


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    """Words in any order, with four special tokens, and perhaps a blank, anywhere among them."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, unique=True))
    has_blank = draw(st.booleans())
    names = ["<s>", "</s>", "<unk>", "<pad>", *(["<blank>"] if has_blank else [])]
    pieces = draw(st.permutations(words + names))
    ids = {name: pieces.index(name) for name in names}
    special = SpecialTokens(
        bos=ids["<s>"], eos=ids["</s>"], unk=ids["<unk>"], pad=ids["<pad>"], blank=ids.get("<blank>")
    )
    return Vocabulary(pieces, special)


def name_row(vocabulary: Vocabulary, row: int) -> str:
    """What a row of a CTC head is of."""
    return "<blank>" if row == vocabulary.blank else vocabulary.pieces[row]


@given(vocabularies(), vocabularies())
def test_rows_are_of_the_same_piece_and_none_that_both_have_is_missed(here: Vocabulary, there: Vocabulary) -> None:
    rows = match_rows(here, there)
    shared = set(here.pieces) & set(there.pieces)
    assert {here.pieces[row] for row in rows["tokens"]} == shared
    assert all(here.pieces[row] == there.pieces[other] for row, other in rows["tokens"].items())
    assert {name_row(here, row) for row in rows["ctc"]} == shared | {"<blank>"}
    assert all(name_row(here, row) == name_row(there, other) for row, other in rows["ctc"].items())


@given(vocabularies())
def test_the_same_vocabulary_has_all_rows_where_they_were(vocabulary: Vocabulary) -> None:
    rows = match_rows(vocabulary, vocabulary)
    count = len(vocabulary.pieces)
    assert rows["tokens"] == {row: row for row in range(count)}
    assert rows["ctc"] == {row: row for row in range(max(count, vocabulary.blank + 1))}


def test_special_tokens_are_matched_by_their_role_whatever_they_are_called() -> None:
    here = Vocabulary(["<s>", "</s>", "<unk>", "<pad>", "a"], SpecialTokens())
    there = Vocabulary(["a", "[PAD]", "[EOS]", "[BOS]", "[UNK]"], SpecialTokens(bos=3, eos=2, unk=4, pad=1, blank=1))
    assert match_rows(here, there) == {
        "tokens": {0: 3, 1: 2, 2: 4, 3: 1, 4: 0},
        "ctc": {0: 3, 1: 2, 2: 4, 4: 0, 5: 1},  # there the pad is the blank, and so no label
    }


def test_rows_that_are_not_matched_stay_as_they_were() -> None:
    own, given_rows = torch.zeros(3, 2), torch.arange(8.0).view(4, 2)
    assert copy_rows(own, given_rows, {0: 3, 2: 1}).tolist() == [[6, 7], [0, 0], [2, 3]]
    assert not own.any(), "the model's own tensor is not written to"
