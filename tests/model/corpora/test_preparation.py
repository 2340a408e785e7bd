from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import noise, tone, write_segments

from model.corpora import preparation
from model.corpora.corpus import Corpus, SetKind, read_corpus
from model.corpora.parts import Part
from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.source import AudioRef, Segment, Source
from model.errors import UserError
from model.runtime.processes import run_in_processes
from model.runtime.progress import follow_progress

SETS = {"train": 4, "dev": 2, "test": 2}


@pytest.fixture
def segments(tmp_path: Path) -> list[Segment]:
    return write_segments(tmp_path / "recordings", SETS)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.corpora.parts.SEGMENTS", 3)


def prepare(folder: Path, segments: Sequence[Segment], run_parts=preparation.run_here, **settings) -> Prepared:
    source = Source("small", "the source", segments)
    return prepare_corpus(source, folder / "out", Preparation(**settings), run_parts)


def read_all(corpus: Corpus) -> dict[str, np.ndarray]:
    return {cut.id: cut.load_audio() for name in corpus.sets for cut in corpus.cuts(name)}


def test_a_source_becomes_a_corpus_whose_cuts_have_its_audio_text_and_speakers(
    segments: list[Segment], tmp_path: Path
) -> None:
    corpus = prepare(tmp_path, segments).corpus
    assert {name: info.utterances for name, info in corpus.sets.items()} == SETS
    cut = corpus.cuts("dev")[1]
    assert (cut.id, cut.supervisions[0].text, cut.supervisions[0].speaker) == ("dev-1", "dev sentence 1", "dev-ann")
    written, _ = soundfile.read(tmp_path / "recordings" / "dev-1.wav")
    np.testing.assert_array_equal(cut.load_audio()[0], written)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_audio_that_is_left_in_its_place_gives_the_same_corpus_as_copies(
    segments: list[Segment], tmp_path: Path
) -> None:
    stereo = tmp_path / "recordings" / "stereo.wav"
    soundfile.write(stereo, np.stack([noise(100, 2.0), noise(101, 2.0)], axis=1), 16_000)
    segments += [
        Segment("left", "left", "left", AudioRef(str(stereo), channel=1, start=0.5, end=1.25), set_name="train"),
        Segment("mean", "mean", "both", AudioRef(str(stereo), start=1.0), set_name="train"),
    ]
    copied = prepare(tmp_path / "a", segments).corpus
    left = prepare(tmp_path / "b", segments, copies=False).corpus
    assert left.fingerprint == copied.fingerprint
    assert not (left.folder / "audio").exists()
    audio, original = read_all(copied), read_all(left)
    assert audio.keys() == original.keys()
    for key in audio:
        np.testing.assert_allclose(original[key].mean(axis=0), audio[key][0], atol=1 / 32768)
    for name in SETS:
        assert list(left.entries(name)) != list(copied.entries(name))
        assert [entry.samples for entry in left.entries(name)] == [entry.samples for entry in copied.entries(name)]


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
@pytest.mark.parametrize("copies", [True, False])
def test_an_entry_has_as_many_samples_as_its_audio_gives_at_16_khz(
    segments: list[Segment], tmp_path: Path, rate: int, copies: bool
) -> None:
    path = tmp_path / "other.flac"
    soundfile.write(path, tone(1.2345, rate), rate)
    stretch = AudioRef(str(path), start=0.1, end=1.0)
    segments.append(Segment("other", "other", "other", stretch, set_name="train"))
    corpus = prepare(tmp_path, segments, copies=copies).corpus
    entry = next(entry for entry in corpus.entries("train") if entry.id == "other")
    assert entry.samples == pytest.approx(0.9 * 16_000, abs=1)
    assert len(corpus.read_samples(entry)) == entry.samples


@pytest.mark.usefixtures("small_parts")
def test_processes_and_parts_change_nothing(segments: list[Segment], tmp_path: Path) -> None:
    def two(function, parts: Sequence[Part]) -> Iterator[int]:
        assert len(parts) == 3
        return run_in_processes(function, parts, 2)

    alone, together = prepare(tmp_path / "a", segments), prepare(tmp_path / "b", segments, two)
    assert together.corpus.fingerprint == alone.corpus.fingerprint
    assert [entry.id for entry in together.corpus.entries("train")] == [
        segment.id for segment in segments if segment.set_name == "train"
    ]


@pytest.mark.usefixtures("small_parts")
def test_a_preparation_that_was_stopped_goes_on_where_it_was(segments: list[Segment], tmp_path: Path) -> None:
    whole = prepare(tmp_path / "whole", segments).corpus

    def stopped(function, parts: Sequence[Part]) -> Iterator[int]:
        yield function(parts[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, segments, stopped)
    left: list[int] = []

    def counted(function, parts: Sequence[Part]) -> Iterator[int]:
        left.append(len(parts))
        return map(function, parts)

    corpus = prepare(tmp_path, segments, counted).corpus
    assert left == [2]
    assert corpus.fingerprint == whole.fingerprint
    assert {path.name for path in corpus.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
    assert not (tmp_path / ".out.draft").exists()


@pytest.mark.usefixtures("small_parts")
def test_only_the_parts_that_a_correction_changes_are_checked_again(segments: list[Segment], tmp_path: Path) -> None:
    wrong = [dataclasses.replace(segments[0], id=segments[1].id), *segments[1:]]
    with pytest.raises(UserError, match=r"1 of its utterances: an id that another utterance has too \(row train-1"):
        prepare(tmp_path, wrong)
    left: list[int] = []

    def counted(function, parts: Sequence[Part]) -> Iterator[int]:
        left.append(len(parts))
        return map(function, parts)

    corpus = prepare(tmp_path, segments, counted).corpus
    assert left == [1]
    assert len(list((corpus.folder / "audio").rglob("*.flac"))) == sum(SETS.values())


@pytest.mark.usefixtures("small_parts")
def test_the_search_for_copies_that_a_corpus_does_not_need_gives_signs_of_progress(
    segments: list[Segment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, published = list[int](), list[int]()
    publish = preparation.publish
    monkeypatch.setattr(preparation, "publish", lambda *folders: (publish(*folders), published.append(len(notes))))
    with follow_progress(lambda: notes.append(1)):
        corpus = prepare(tmp_path, segments).corpus
    assert len(notes) - published[0] == len(list(corpus.folder.rglob("*.flac"))) == len(segments)


def test_two_preparations_of_one_corpus_cannot_run_at_once(segments: list[Segment], tmp_path: Path) -> None:
    def another(function, parts: Sequence[Part]) -> Iterator[int]:
        with pytest.raises(UserError, match="is being prepared by another process; wait for it, or give another"):
            prepare(tmp_path, segments)
        return map(function, parts)

    assert prepare(tmp_path, segments, another).corpus.sets["train"].utterances == 4


@pytest.mark.parametrize(
    ("name", "given", "sets"),
    [
        ("calls", {}, {"train", "dev", "test"}),
        ("train", {}, {"train", "dev", "test"}),
        ("eval2000", {}, {"eval2000"}),
        ("calls", {"calls": SetKind(role="test", domain="out")}, {"calls"}),
    ],
)
def test_the_only_set_of_a_source_is_divided_unless_it_is_for_scoring(
    tmp_path: Path, name: str, given: dict[str, SetKind | None], sets: set[str]
) -> None:
    source = Source("small", "the source", write_segments(tmp_path / "in", {name: 30}, 0.5), is_divisible=True)
    corpus = prepare_corpus(source, tmp_path / "out", Preparation(kinds=given)).corpus
    assert set(corpus.sets) == sets
    assert sum(info.utterances for info in corpus.sets.values()) == 30


def test_the_error_of_a_set_without_a_usable_utterance_says_why(segments: list[Segment], tmp_path: Path) -> None:
    for segment in segments:
        if segment.set_name == "dev":
            Path(segment.audio.file).unlink()
    message = (
        r"the source: none of the 2 utterances of set 'dev' can be used \(2 left out: no such audio file \(row dev-0: "
        r"dev-0.wav; row dev-1: dev-1.wav\) \[missing\]\); correct them, or leave the set out with --set dev=none"
    )
    with pytest.raises(UserError, match=message):
        prepare(tmp_path, segments)
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]


def test_a_corpus_folder_must_not_hold_its_own_sources(segments: list[Segment], tmp_path: Path) -> None:
    corpus = prepare(tmp_path, segments).corpus
    copies = [
        Segment(entry.id, entry.id, entry.text, entry.audio, set_name=name)
        for name in corpus.sets
        for entry in corpus.entries(name)
    ]
    with pytest.raises(UserError, match=r"train-0.flac lies inside the corpus folder .*; give another --out"):
        prepare(tmp_path, copies)
    source = Source("small", "the source", segments, files=[str(corpus.folder / "table.tsv")])
    with pytest.raises(UserError, match=r"table.tsv lies inside the corpus folder"):
        prepare_corpus(source, corpus.folder, Preparation())
    assert read_corpus(corpus.folder) == corpus


def test_a_full_disk_is_one_line_and_keeps_what_was_checked(
    segments: list[Segment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    def full(function, parts: Sequence[Part]) -> Iterator[int]:
        yield function(parts[0])
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"out: cannot be written \(No space left on device\); make room, then start"):
        prepare(tmp_path, segments, full)
    assert len(list((tmp_path / ".out.draft" / "parts").iterdir())) == 1
