"""Recipes of lhotse itself, on stand-ins for the published folders, and recipes that are made here."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lhotse.recipes
import numpy as np
import pytest
from corpus_layouts import write_common_voice, write_librispeech, write_ted_talk
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from recordings import describe, list_found, noise, read_samples, write_noise

from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.sources.lhotse_recipe import parse_options, read_lhotse_recipe
from model.errors import UserError


def prepare(recipe: str, folder: Path, **options: str) -> Prepared:
    return prepare_corpus(read_lhotse_recipe(recipe, [folder], options), folder.parent / "out", Preparation())


def test_librispeechs_parts_are_sets_and_files_that_are_missing_are_found(tmp_path: Path) -> None:
    samples: dict[str, np.ndarray] = {}
    for speaker, part in enumerate(("train-clean-5", "dev-clean", "test-other")):
        said = [(noise(10 * speaker + number, 1.0), f"go do you hear {speaker} {number}") for number in range(2)]
        samples |= write_librispeech(tmp_path / "LibriSpeech" / part, f"{speaker}84", "121123", said)
    gone = tmp_path / "LibriSpeech" / "train-clean-5" / "084" / "121123" / "084-121123-0001.flac"
    gone.unlink()
    prepared = prepare("librispeech", tmp_path / "LibriSpeech")
    assert describe(prepared.corpus) == {
        "train-clean-5": [("084-121123-0000", "go do you hear 0 0", "084")],
        "dev-clean": [(f"184-121123-000{number}", f"go do you hear 1 {number}", "184") for number in range(2)],
        "test-other": [(f"284-121123-000{number}", f"go do you hear 2 {number}", "284") for number in range(2)],
    }
    assert prepared.corpus.name == "librispeech"
    assert list_found(prepared.findings) == {"missing": [f"librispeech: {gone}"]}
    for id, found in read_samples(prepared.corpus).items():
        np.testing.assert_array_equal(found, samples[id])


@pytest.fixture
def common_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two languages of two splits. The recipe's processes, which take seconds to start, are threads."""
    monkeypatch.setattr(
        "lhotse.recipes.commonvoice.ProcessPoolExecutor",
        lambda max_workers, mp_context: ThreadPoolExecutor(max_workers),
    )
    folder = tmp_path / "cv-corpus-21.0"
    for seed, name in enumerate(("en/train", "en/dev", "de/train", "de/dev")):
        language, split = name.split("/")
        said = [(noise(seed, 1.0, 32_000), f'A sentence of {name}, "quoted', "ann" * 40)]
        write_common_voice(folder / language, split, said, first=seed)
    return folder


def test_common_voices_language_is_in_the_names_of_sets_where_there_are_several(common_voice: Path) -> None:
    prepared = prepare("commonvoice", common_voice, languages="en", splits="train,dev")
    texts = {name: [(id, text) for id, text, _ in found] for name, found in describe(prepared.corpus).items()}
    assert texts == {
        "train": [("common_voice_en_0", "a sentence of en train quoted")],
        "dev": [("common_voice_en_1", "a sentence of en dev quoted")],
    }
    assert len(read_samples(prepared.corpus)["common_voice_en_1"]) == pytest.approx(16_000, abs=1152)
    source = read_lhotse_recipe("commonvoice", [common_voice], {"languages": "en,de", "splits": "train,dev"})
    assert {segment.set_name for segment in source.segments} == {"en-train", "en-dev", "de-train", "de-dev"}


def test_ted_liums_talks_are_cut_into_their_segments(tmp_path: Path) -> None:
    samples = {}
    for seed, part in enumerate(("train", "dev", "test")):
        legacy = tmp_path / "TEDLIUM_release-3" / "legacy" / part
        ignored = (1.5, 2.0, "ignore_time_segment_in_scoring")
        said = [(0.25, 1.5, f"so here 's {part} <unk>"), ignored, (2.0, 3.0, f"the end of {part}")]
        samples[part] = write_ted_talk(legacy, f"{part}Talk", noise(seed, 3.0), said)
    prepared = prepare("tedlium", tmp_path / "TEDLIUM_release-3")
    corpus = prepared.corpus
    assert [id for id, _, _ in describe(corpus)["dev"]] == ["devTalk-0", "devTalk-2"]
    assert describe(corpus)["train"][1] == ("trainTalk-2", "the end of train", "trainTalk")
    found = read_samples(corpus)
    np.testing.assert_array_equal(found["testTalk-0"], samples["test"][4_000:24_000])
    np.testing.assert_array_equal(found["testTalk-2"], samples["test"][32_000:])
    assert prepared.lines == []


@pytest.fixture
def recordings(tmp_path: Path) -> dict[str, Any]:
    """What a part of a recipe ends in: 24 recordings and their supervisions."""
    found = []
    for seed in range(24):
        write_noise(tmp_path / "published" / f"r{seed}.wav", seed)
        found.append(Recording.from_file(tmp_path / "published" / f"r{seed}.wav"))
    supervisions = [SupervisionSegment(one.id, one.id, 0.0, 0.5, text=f"text of {one.id}") for one in found]
    return {
        "recordings": RecordingSet.from_recordings(found),
        "supervisions": SupervisionSet.from_segments(supervisions),
    }


@pytest.fixture
def add_recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Makes a function the recipe `own`."""
    return lambda function: monkeypatch.setattr(lhotse.recipes, "prepare_own", function, raising=False)


@pytest.mark.parametrize(
    ("shape", "sets"),
    [
        (lambda part: part, {"own"}),
        (lambda part: (part["recordings"], part["supervisions"]), {"own"}),
        (lambda part: {"all": part}, {"all"}),
        (lambda part: {"en": {"train": part, "dev set": part}}, {"train", "dev-set"}),
        (lambda part: {"en": {"train": part}, "de": {"train": part}}, {"en-train", "de-train"}),
        (lambda part: {"x": {"y": {"train": part, "dev": part}}}, {"train", "dev"}),
    ],
)
def test_sets_are_the_parts_of_what_a_recipe_returns(
    recordings: dict[str, Any],
    add_recipe: Callable[[Callable[..., Any]], None],
    tmp_path: Path,
    shape: Callable[[dict[str, Any]], Any],
    sets: set[str],
) -> None:
    def own(corpus_dir: Path) -> Any:
        return shape(recordings)

    add_recipe(own)
    source = read_lhotse_recipe("own", [tmp_path / "published"], {})
    assert {segment.set_name for segment in source.segments} == sets
    assert len(source.segments) == 24 * len(sets)


def test_parts_come_in_the_order_of_their_names_whatever_order_a_recipe_finds_them_in(
    recordings: dict[str, Any], add_recipe: Callable[[Callable[..., Any]], None], tmp_path: Path
) -> None:
    def own(corpus_dir: Path) -> dict[str, Any]:
        return dict.fromkeys(("train-other", "dev", "train-clean"), recordings)

    add_recipe(own)
    segments = read_lhotse_recipe("own", [tmp_path / "published"], {}).segments
    assert list(dict.fromkeys(segment.set_name for segment in segments)) == ["dev", "train-clean", "train-other"]


def test_a_recipe_without_parts_is_divided(
    recordings: dict[str, Any], add_recipe: Callable[[Callable[..., Any]], None], tmp_path: Path
) -> None:
    def own(corpus_dir: Path) -> dict[str, Any]:
        return recordings

    add_recipe(own)
    corpus = prepare("own", tmp_path / "published").corpus
    assert sorted(id for found in describe(corpus).values() for id, _, _ in found) == sorted(
        f"r{number}" for number in range(24)
    )
    assert list(corpus.sets) == ["train", "dev", "test"]


def test_arguments_are_converted_by_the_signature(
    recordings: dict[str, Any], add_recipe: Callable[[Callable[..., Any]], None], tmp_path: Path
) -> None:
    given: dict[str, Any] = {}

    def own(
        audio_dirs: list[Path | str],
        output_dir: Path | str,
        transcripts_dir: Path | str | None = None,
        parts: str | Sequence[str] = "auto",
        splits: str | Sequence[str] = ("train", "dev"),
        absolute_paths: bool = False,
        threshold: float | None = 1.0,
        count: int | None = 3,
        mic: str = "mix",
        num_jobs: int = 1,
    ) -> dict[str, Any]:
        given.update(locals())
        assert Path(output_dir).is_dir()
        return recordings

    add_recipe(own)
    options = {"parts": "auto", "splits": "train", "absolute_paths": "yes", "threshold": "0.5", "count": "none"}
    folders = [tmp_path / "published", tmp_path]
    read_lhotse_recipe("own", folders, options, jobs=3)
    given = {name: value for name, value in given.items() if name in options or name[-4:] in ("_dir", "dirs", "jobs")}
    assert not given.pop("output_dir").exists()
    assert given == {
        "audio_dirs": [folders[0]],
        "transcripts_dir": folders[1],
        "parts": "auto",
        "splits": ["train"],
        "absolute_paths": True,
        "threshold": 0.5,
        "count": None,
        "num_jobs": 3,
    }
    read_lhotse_recipe("own", [tmp_path], {"parts": "a,b", "audio_dirs": "x,y", "num_jobs": "2", "mic": "far"})
    for option, message in (
        ("absolute_paths=maybe", r"--option absolute_paths=maybe: must be true or false"),
        ("count=few", r"--option count=few: must be a number"),
        ("micro=far", r"--option micro: recipe own has no such parameter; did you mean 'mic'\?"),
        ("mic", r"--option mic: must be KEY=VALUE, a parameter of the recipe"),
    ):
        with pytest.raises(UserError, match=message):
            read_lhotse_recipe("own", folders, parse_options([option]))


@pytest.mark.parametrize(
    ("recipe", "folders", "message"),
    [
        ("librispeach", ["a"], r"lhotse has no recipe 'librispeach'; did you mean 'librispeech'\?"),
        ("librispeech", ["x"], r"/x: no such folder; give what the recipe librispeech reads, as it is published"),
        (
            "librispeech",
            ["a"],
            r"librispeech of .*/a: cannot be read \(Could not find any .*\); give folders as they are",
        ),
        (
            "librispeech",
            ["a", "b", "c"],
            r"recipe librispeech takes corpus_dir, alignments_dir, but 3 folders are given",
        ),
        (
            "broadcast-news",
            ["a"],
            r"broadcast_news needs 2 folders: audio_dir, transcripts_dir; give transcripts_dir too",
        ),
        (
            "speechcommands",
            ["a"],
            r"speechcommands needs speechcommands_version; give --option speechcommands_version=",
        ),
    ],
)
def test_what_is_not_to_be_read_is_one_line_with_recipe_and_folder(
    tmp_path: Path, recipe: str, folders: list[str], message: str
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=message) as caught:
        read_lhotse_recipe(recipe, [tmp_path / folder for folder in folders], {})
    assert "\n" not in str(caught.value)


def test_nothing_is_downloaded(
    add_recipe: Callable[[Callable[..., Any]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(corpus_dir: Path) -> None:
        urllib.request.urlopen("http://www.example.org/transcripts.tar")

    add_recipe(own)
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        UserError, match=r"would download from www.example.org, which is not done here; download it first"
    ):
        read_lhotse_recipe("own", [tmp_path], {})


def test_a_recipe_that_gives_no_recordings_or_writes_audio_is_refused(
    recordings: dict[str, Any], add_recipe: Callable[[Callable[..., Any]], None], tmp_path: Path
) -> None:
    def own(corpus_dir: Path, output_dir: Path, writes: bool = True) -> Any:
        if not writes:
            return {"train": {"cuts": recordings["recordings"]}}
        write_noise(output_dir / "own.wav", 1)
        one = Recording.from_file(output_dir / "own.wav", recording_id="own")
        return RecordingSet.from_recordings([one]), SupervisionSet.from_segments(
            [SupervisionSegment("own", "own", 0.0, 0.5, text="own")]
        )

    add_recipe(own)
    with pytest.raises(UserError, match=r"writes audio of its own; give a folder for it, --option output_dir=FOLDER"):
        read_lhotse_recipe("own", [tmp_path], {})
    assert len(read_lhotse_recipe("own", [tmp_path], {"output_dir": str(tmp_path / "kept")}).segments) == 1
    with pytest.raises(UserError, match=r"makes no recordings of 'train-cuts', but RecordingSet\); give folders"):
        read_lhotse_recipe("own", [tmp_path], {"writes": "no"})


def test_recordings_without_supervisions_and_other_warnings_are_not_lost(
    recordings: dict[str, Any],
    add_recipe: Callable[[Callable[..., Any]], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def own(corpus_dir: Path) -> Any:
        logging.warning("one was odd")
        return {"train": recordings, "music": {"recordings": recordings["recordings"]}}

    add_recipe(own)
    source = read_lhotse_recipe("own", [tmp_path], {})
    assert list_found(source.findings)["no-transcript"][0] == "music r0: r0"
    assert source.findings.count("no-transcript") == 24
    assert "one was odd" in caplog.text
