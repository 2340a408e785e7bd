from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from model.corpora.sources.asterisk import HELD_OUT, TRAINING_SENTENCES, choose_sets, format_prompt_rows

SENTENCES = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4).map(" ".join), max_size=400)


def test_digits_are_spelt_out_and_what_was_spoken_in_an_unknown_way_or_not_recorded_is_skipped(tmp_path: Path) -> None:
    for name in ("beep", "digits/1", "vm-press", "x", "star"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.wav").touch()
    lines = ["; Core Sounds", "", "beep: [a beep]", "digits/1: 1", "vm-press: Press 1:  now", "x: dial 323", "no colon"]
    assert list(format_prompt_rows([*lines, "star: press *", "absent: gone"], tmp_path)) == [
        "audio\ttext\tspeaker\tset",
        f"{tmp_path}/digits/1.wav\tone\tallison\ttrain",
        f"{tmp_path}/vm-press.wav\tPress one: now\tallison\ttrain",
    ]


@given(SENTENCES)
def test_every_word_of_a_sentence_that_is_held_out_stays_in_several_of_training(sentences: list[str]) -> None:
    sets = choose_sets(sentences)
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
    sets = choose_sets(sentences)
    assert Counter(sets.values()) == {"train": 400 - HELD_OUT, "dev": HELD_OUT // 2, "test": HELD_OUT // 2}
    assert choose_sets(sentences[::-1]) == sets
