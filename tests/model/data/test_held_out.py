"""Sentences that are held out have only words that training has."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from model.data.held_out import TRAINING_SENTENCES, choose_sets

HELD_OUT = 80
SENTENCES = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4).map(" ".join), max_size=400)


@given(SENTENCES)
def test_every_word_of_a_sentence_that_is_held_out_stays_in_several_of_training(sentences: list[str]) -> None:
    sets = choose_sets(sentences, HELD_OUT)
    assert sets.keys() == set(sentences)
    training = Counter(word for text, name in sets.items() if name == "train" for word in set(text.split()))
    held_out = [text for text, name in sets.items() if name != "train"]
    assert len(held_out) <= HELD_OUT
    assert all(" " in text for text in held_out)
    assert all(training[word] >= TRAINING_SENTENCES for text in held_out for word in text.split())
    sizes = Counter(sets.values())
    assert sizes["dev"] - sizes["test"] in (0, 1)


def test_sentences_are_held_out_up_to_the_limit_whatever_their_order() -> None:
    sentences = [f"{first} {second}" for first in range(20) for second in range(20)]
    sets = choose_sets(sentences, HELD_OUT)
    assert Counter(sets.values()) == {"train": 400 - HELD_OUT, "dev": HELD_OUT // 2, "test": HELD_OUT // 2}
    assert choose_sets(sentences[::-1], HELD_OUT) == sets
