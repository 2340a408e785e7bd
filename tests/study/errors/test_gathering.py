"""From hypotheses to aligned utterances: what is read, what is noted, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.corpus import Corpus
from model.errors import UserError
from model.evaluation.error_rates import word_edits
from study.errors.content import Recognition, Utterance, compute_difference, compute_wer, count_edits
from study.errors.gathering import gather
from study.errors.systems import find_systems
from study.verdict.alignment import align_words

WriteRun = Callable[..., Path]
TEXTS = st.lists(st.sampled_from(["a", "b", "c", "אב", "*", "+"]), max_size=8).map(" ".join)
PLAIN = {"in-anna-1": "turn light on", "in-anna-2": "book a seat in the train"}


def read(*paths: Path, **options: Any) -> Any:
    return gather(find_systems(paths), **options)


def test_a_run_a_trn_and_a_ctm_file_of_the_same_words_are_aligned_alike(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run("run", PLAIN)
    trn, ctm = tmp_path / "b.trn", tmp_path / "c.ctm"
    trn.write_text("".join(f"{text} ({key})\n" for key, text in PLAIN.items()))
    words = [(key, place, word) for key, text in PLAIN.items() for place, word in enumerate(text.split())]
    ctm.write_text("".join(f"{key} 1 {place / 10:.1f} 0.1 {word}\n" for key, place, word in words))
    content = read(run, trn, ctm)
    assert [system.letter + system.name for system in content.systems] == ["Arun", "Bb", "Cc"]
    for utterance in content.utterances:
        assert utterance.recognitions[0] == utterance.recognitions[1] == utterance.recognitions[2]
    assert content.utterances[0].steps(1) == [
        ("C", "turn", "turn"),
        ("D", "the", ""),
        ("C", "light", "light"),
        ("C", "on", "on"),
    ]


@given(TEXTS, TEXTS)
def test_an_alignment_spells_both_texts_and_counts_as_the_metrics_do(reference: str, hypothesis: str) -> None:
    recognition = Recognition(hypothesis, align_words(reference, hypothesis))
    steps = Utterance("u", "", "", "", reference, (recognition,)).steps(0)
    assert [step.reference for step in steps if step.reference] == reference.split()
    assert [step.hypothesis for step in steps if step.hypothesis] == hypothesis.split()
    assert all((step.reference == step.hypothesis) == (step.letter == "C") for step in steps)
    assert recognition.edits == word_edits(reference, hypothesis)


def test_empty_texts_have_no_wer_or_all_words_wrong(two_systems: Any) -> None:
    utterances = {utterance.id: utterance for utterance in two_systems.utterances}
    assert utterances["in-ben-2"].steps(0) == [("I", "", "oops")]
    assert compute_wer(utterances["in-ben-2"].recognitions[0].edits) is None
    assert compute_difference(utterances["in-ben-2"]) is None
    assert utterances["in-anna-2"].recognitions[1].letters == "DDDDDD"
    assert compute_difference(utterances["in-anna-2"]) == pytest.approx(100.0 / 3 - 100.0)


def test_an_utterance_that_a_system_lacks_stays_and_is_noted(write_run: WriteRun) -> None:
    fewer = {"in-anna-2": PLAIN["in-anna-2"]}
    content = read(write_run("a", PLAIN), write_run("b", fewer))
    assert [utterance.is_in_all for utterance in content.utterances] == [False, True]
    assert count_edits(content.utterances, 0).length == 10
    assert count_edits(content.utterances, 1).length == 6
    assert compute_difference(content.utterances[0]) is None
    assert content.notes[0].startswith("B lacks 1 of 2 utterances, such as in-anna-1: its figures are of those")


def test_of_several_files_those_that_all_systems_have_are_shown_and_the_others_named(write_run: WriteRun) -> None:
    first = write_run("a", PLAIN, part="test-in")
    write_run("a", PLAIN, part="dev")
    write_run("a", PLAIN, part="dev-final")
    second = write_run("b", PLAIN, part="test-in")
    write_run("b", PLAIN, part="test-far")
    content = read(first, second)
    assert {utterance.part for utterance in content.utterances} == {"test-in"}
    assert content.notes[0] == "Left out, because a system lacks them: dev, test-far."
    other = write_run("c", PLAIN, part="x")
    write_run("c", PLAIN, part="y")
    with pytest.raises(UserError, match=r"no set is in all systems \(.*a has dev, test-in; .*c has x, y\); give"):
        read(first, other)


def test_sets_are_chosen_by_their_names_or_by_that_of_their_file(write_run: WriteRun) -> None:
    run = write_run("a", PLAIN | {"out-carl-1": "שלום"}, part="dev-final")
    assert [one.id for one in read(run, sets=["out"]).utterances] == ["out-carl-1"]
    assert len(read(run, sets=["dev"]).utterances) == 3
    with pytest.raises(UserError, match="set 'inn' is not among the hypotheses; did you mean 'in'"):
        read(run, sets=["inn"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (({"normaliser": "basic 1"}, {"normaliser": "none 1"}), "was scored with normaliser basic 1, .* with none 1"),
        (({"aligner": "jiwer 4"}, {"aligner": "jiwer 5"}), "was scored with aligner jiwer 4, .* with jiwer 5; score"),
    ],
)
def test_what_was_scored_in_another_way_is_refused(
    write_run: WriteRun, settings: tuple[Mapping[str, str], ...], message: str
) -> None:
    paths = [write_run(name, PLAIN, one) for name, one in zip("ab", settings, strict=True)]
    with pytest.raises(UserError, match=message):
        read(*paths)


def test_another_decoding_and_another_aligner_are_noted(write_run: WriteRun) -> None:
    first = write_run("a", PLAIN, {"decoding": {"beam": 1}, "aligner": "jiwer 0"})
    second = write_run("b", PLAIN, {"decoding": {"beam": 4}, "aligner": "jiwer 0"})
    notes = " ".join(read(first, second).notes)
    assert "Scored with jiwer 0, aligned here with jiwer" in notes
    assert "The systems were decoded in different ways" in notes


def test_references_have_to_be_there_and_the_same(write_run: WriteRun, tmp_path: Path) -> None:
    trn = tmp_path / "a.trn"
    trn.write_text("Turn on! (in-anna-1)\n")
    with pytest.raises(UserError, match=r"a.trn: no reference of in-anna-1; give --reference FILE.trn"):
        read(trn)
    (tmp_path / "r.trn").write_text("turn ON (in-anna-1)\n")
    (utterance,) = read(trn, reference=tmp_path / "r.trn", normaliser="basic").utterances
    assert (utterance.reference, utterance.recognitions[0].letters) == ("turn on", "CC")
    first = write_run("one", {"in-anna-1": "x"})
    second = write_run("two", {"in-anna-1": "x"}, references={"in-anna-1": "Turn the light on"})
    with pytest.raises(UserError, match="have different references of in-anna-1, 'Turn the light on' and 'turn the"):
        read(first, second)
    assert len(read(first, second, normaliser="basic").utterances) == 1


def test_lengths_and_audio_come_from_the_corpus_and_their_lack_is_noted(
    write_run: WriteRun, corpus: Corpus, tmp_path: Path
) -> None:
    entry = next(corpus.entries("test-in"))
    trn = tmp_path / "a.trn"
    trn.write_text(f"{entry.text} ({entry.id})\nnothing (absent)\n")
    (tmp_path / "r.trn").write_text(f"{entry.text} ({entry.id})\nnothing (absent)\n")
    content = read(trn, reference=tmp_path / "r.trn", corpus=corpus.folder)
    found, absent = content.utterances
    assert (found.seconds, found.audio, found.speaker) == (entry.samples / 16000, entry.audio, entry.speaker)
    assert replace(absent, recognitions=()) == Utterance("absent", "", "all", "", "nothing", ())
    assert content.notes == (
        f"1 of 2 utterances are not in the corpus {corpus.folder}, such as absent: without seconds and audio.",
    )
    unknown = read(write_run("run", PLAIN))
    assert unknown.notes == ("The corpus is not known: without seconds and audio. Name it with --corpus FOLDER.",)
    with pytest.raises(UserError, match=r"corpus .*nowhere: no such folder"):
        read(trn, reference=tmp_path / "r.trn", corpus=tmp_path / "nowhere")
