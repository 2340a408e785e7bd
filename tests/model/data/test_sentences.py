"""The draw of sentences depends on nothing but the sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data import sentences
from model.data.sentences import draw_sentences, hash_sentence

TEXTS = st.lists(st.text(max_size=2), min_size=1, max_size=40)


@given(TEXTS, st.integers(1, 50))
def test_as_many_as_asked_for_are_drawn_in_the_order_of_the_text(text: list[str], most: int) -> None:
    drawn = list(draw_sentences(text, most)[0])
    assert len(drawn) == min(most, len(text))
    rest = iter(text)
    assert all(sentence in rest for sentence in drawn)


@given(TEXTS, st.integers(1, 50), st.randoms(use_true_random=False))
def test_another_order_draws_the_same_sentences(text: list[str], most: int, random) -> None:
    shuffled = random.sample(text, len(text))
    assert Counter(draw_sentences(text, most)[0]) == Counter(draw_sentences(shuffled, most)[0])


@given(TEXTS, st.integers(1, 50))
def test_a_larger_draw_has_all_sentences_of_a_smaller_one(text: list[str], most: int) -> None:
    smaller, larger = (Counter(draw_sentences(text, count)[0]) for count in (most, most + 1))
    assert smaller <= larger


@given(TEXTS, st.integers(1, 50))
def test_the_sentences_with_the_smallest_hashes_are_drawn(text: list[str], most: int) -> None:
    expected = sorted(hash_sentence(sentence) for sentence in text)[:most]
    assert sorted(hash_sentence(sentence) for sentence in draw_sentences(text, most)[0]) == expected


@given(TEXTS, st.integers(1, 50))
def test_all_characters_are_named_where_some_sentences_are_left_out(text: list[str], most: int) -> None:
    everything = "".join(sorted(set("".join(text)))) if most < len(text) else ""
    assert draw_sentences(text, most)[1] == everything


def test_a_text_in_many_chunks_is_drawn_from_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = [f"sentence {number % 700}" for number in range(1000)]
    whole = list(draw_sentences(text, 100)[0])
    monkeypatch.setattr(sentences, "CHUNK", 7)
    assert list(draw_sentences(text, 100)[0]) == whole


def test_hashes_are_those_of_every_machine_and_spread_evenly() -> None:
    assert hash_sentence("one two") == 561697725256166493
    shares = np.array([hash_sentence(f"sentence {number}") for number in range(10_000)]) / 2**64
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.02)


class CountedText:
    """A text that counts how often it is read."""

    def __init__(self, count: int) -> None:
        self.count, self.reads = count, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        self.reads += 1
        for number in range(self.count):
            yield f"sentence {number}"


def test_the_text_is_read_once_to_take_all_of_it_and_twice_to_draw() -> None:
    for most, reads in ((10, 1), (9, 2)):
        text = CountedText(10)
        assert len(list(draw_sentences(text, most)[0])) == most
        assert text.reads == reads
