from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.corpus import SetKind
from model.corpora.normaliser import normalise
from model.corpora.sets import choose_kinds, choose_set, divide_into_sets, divide_speakers, kind_of, parse_kinds
from model.corpora.source import AudioRef, Segment
from model.errors import UserError


def make_segments(count: int, speakers: int | None, set_name: str | None = None) -> list[Segment]:
    return [
        Segment(
            f"line {number}",
            str(number),
            f"sentence {number}",
            AudioRef("a.wav"),
            None if speakers is None else f"speaker {number % speakers}",
            set_name,
        )
        for number in range(count)
    ]


def shares(segments: list[Segment]) -> dict[str, float]:
    names = [str(segment.set_name) for segment in segments]
    return {name: names.count(name) / len(names) for name in ("train", "dev", "test")}


@given(st.text(), st.integers(0, 5))
def test_the_same_sentence_is_never_in_two_sets_however_it_is_written(text: str, seed: int) -> None:
    assert choose_set(text, seed) == choose_set(f"  {text} !", seed) == choose_set(normalise("basic", text), seed)


@pytest.mark.parametrize("speakers", [None, 1, 9, 50])
def test_without_sets_four_fifths_train_and_a_tenth_each_dev_and_test(speakers: int | None) -> None:
    divided = divide_into_sets(make_segments(3000, speakers), seed=0)
    assert shares(divided) == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.03)


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 50), min_size=10), st.integers(0, 3))
def test_whole_speakers_are_divided_and_none_of_more_than_a_tenth_leaves_training(
    utterances: dict[str, int], seed: int
) -> None:
    sets = divide_speakers(utterances, seed)
    assert sets.keys() == utterances.keys()
    assert "dev" in sets.values()
    total = sum(utterances.values())
    for name in ("dev", "test"):
        count = sum(utterances[speaker] for speaker in sets if sets[speaker] == name)
        assert count < 0.2 * total + 1e-9
    assert all(sets[speaker] == "train" for speaker, count in utterances.items() if count > 0.1 * total)


def test_a_speaker_is_in_one_set_where_there_are_enough_speakers() -> None:
    divided = divide_into_sets(make_segments(1000, 40), seed=0)
    sets = {(segment.speaker, segment.set_name) for segment in divided}
    assert len(sets) == 40


def test_sets_that_the_source_names_stay() -> None:
    segments = [*make_segments(50, 2, "dev-far"), *make_segments(50, 2)]
    divided = divide_into_sets(segments, seed=0)
    assert {segment.set_name for segment in divided[:50]} == {"dev-far"}
    assert {segment.set_name for segment in divided[50:]} <= {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train-clean-100", SetKind(role="train")),
        ("training", SetKind(role="train")),
        ("dev-other", SetKind(role="dev")),
        ("validation", SetKind(role="dev")),
        ("en_test", SetKind(role="test")),
        ("eval2000", SetKind(role="test")),
        ("test-ood-phone", SetKind(role="test", domain="out")),
        ("dev_out", SetKind(role="dev", domain="out")),
        ("train-ood", SetKind(role="train")),
        ("other", None),
        ("contest", None),
        ("test-outdoor", SetKind(role="test")),
    ],
)
def test_the_first_word_of_a_name_that_is_a_role_says_what_the_set_is_for(name: str, kind: SetKind | None) -> None:
    assert kind_of(name) == kind


def test_kinds_that_are_given_go_before_names_and_train_comes_first() -> None:
    given = parse_kinds(["other=train", "dev-noisy=dev:out", "test=none"])
    kinds = choose_kinds(["test", "dev-noisy", "other"], given, "the source")
    assert list(kinds.items()) == [("other", SetKind(role="train")), ("dev-noisy", SetKind(role="dev", domain="out"))]


@pytest.mark.parametrize("option", ["dev", "dev=", "dev=devel", "dev=none:out", "=dev", "dev=train:far"])
def test_an_option_that_names_no_kind_is_refused(option: str) -> None:
    with pytest.raises(UserError, match=r"--set .*: must be NAME=train, dev, test, dev:out, test:out or none"):
        parse_kinds([option])


def test_a_name_that_says_nothing_and_a_set_that_is_not_there_are_refused() -> None:
    with pytest.raises(UserError, match=r"the name of set 'misc' does not say what it is for; give --set misc=train"):
        choose_kinds(["misc"], {}, "the source")
    with pytest.raises(UserError, match=r"the source: has no set 'devel'; its sets are dev, train"):
        choose_kinds(["dev", "train"], parse_kinds(["devel=dev"]), "the source")
