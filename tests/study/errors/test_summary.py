"""Counts of sets, speakers and words: laws between them, and icefall's counts of a word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors.content import Content, Recognition, System, Utterance, count_edits
from study.errors.summary import count_words, order_counts, summarise_sets, summarise_speakers
from study.errors.tables import to_json
from study.verdict.alignment import align_words

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=6).map(" ".join)
NAMES = st.sampled_from(["x", "y", ""])


def make_utterance(number: int, drawn: tuple[str, str, str, str]) -> Utterance:
    set_name, speaker, reference, hypothesis = drawn
    recognition = Recognition(hypothesis, align_words(reference, hypothesis))
    return Utterance(str(number), "test", set_name or "z", speaker, reference, (recognition,), seconds=1.5)


@given(st.lists(st.tuples(NAMES, NAMES, TEXTS, TEXTS), max_size=8))
def test_sets_speakers_and_words_have_the_same_errors_together(drawn: list[tuple[str, str, str, str]]) -> None:
    utterances = tuple(make_utterance(number, one) for number, one in enumerate(drawn))
    content = Content((System("A", "a", None),), utterances)  # type: ignore[arg-type]
    whole = count_edits(utterances, 0)
    sets = [group for group in summarise_sets(content) if "all" not in group.name]
    for groups in (sets, summarise_speakers(content)):
        counted = [group.systems[0].edits for group in groups]
        assert tuple(map(sum, zip(*counted, strict=True))) == (tuple(whole) if counted else ())
        assert sum(group.utterances for group in groups) == len(utterances)
        assert sum(group.seconds or 0.0 for group in groups) == 1.5 * len(utterances)
    tables = count_words(utterances, 0)
    assert tables.pairs.total() == whole.substitutions
    assert tables.insertions.total() == whole.insertions
    assert tables.deletions.total() == whole.deletions
    words = tables.words.values()
    assert sum(word.in_reference for word in words) == whole.length
    assert sum(word.in_hypothesis for word in words) == sum(len(hypothesis.split()) for *_, hypothesis in drawn)
    assert sum(word.errors for word in words) == whole.errors + whole.substitutions  # which are of two words


def test_a_word_is_counted_where_it_was_said_and_where_it_was_recognised() -> None:
    drawn = [("x", "s", "seat seat a", "sheet seat"), ("x", "s", "a b", "a seat b")]
    tables = count_words([make_utterance(number, one) for number, one in enumerate(drawn)], 0)
    seat = tables.words["seat"]
    assert (seat.right, seat.substituted, seat.deleted, seat.inserted, seat.falsely_recognised) == (1, 1, 0, 1, 0)
    assert (seat.errors, seat.in_reference, seat.in_hypothesis) == (2, 2, 2)
    assert tables.words["sheet"].falsely_recognised == 1
    assert order_counts(tables.pairs) == [(("seat", "sheet"), 1)]


def test_a_file_of_several_sets_has_a_line_for_all_of_them(two_systems: Any) -> None:
    groups = {group.name: group for group in summarise_sets(two_systems)}
    assert list(groups) == ["in", "out", "test, all"]
    assert groups["in"].systems[0].edits == (1, 1, 2, 14)
    assert groups["in"].systems[1].edits == (2, 6, 1, 14)
    assert groups["in"].difference == pytest.approx(100.0 * (4 - 9) / 14)
    assert groups["in"].seconds is None


def test_the_json_form_has_every_number_of_the_summary_and_of_each_utterance(two_systems: Any) -> None:
    content = to_json(two_systems)
    assert content["sets"][0]["systems"][0] == {
        "utterances": 4,
        "wrong": 3,
        "wer": 100.0 * 4 / 14,
        "S": 1,
        "D": 1,
        "I": 2,
        "N": 14,
    }
    assert [speaker["name"] for speaker in content["speakers"]] == ["anna", "ben", "carl"]
    first = content["utterances"][0]
    assert first["systems"][0]["alignment"][1] == ["D", "the", ""]
    assert first["difference"] == 25.0
    assert ["seat", "sheet", 1] in content["systems"][0]["pairs"]
    assert content["systems"][0]["insertions"] == [["<img", 1], ["oops", 1], ["please", 1], ["src=x", 1]]
