"""Saved datasets and corpora of lhotse's recipes that are damaged, or that say what cannot be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chaos.bad_sources import (
    ROW_KINDS,
    UTTERANCES,
    assert_prepared,
    assert_refused,
    make_row,
    run_prepare,
    write_hugging_face,
)
from recordings import write_noise

pytestmark = pytest.mark.timeout(120)  # none of it may hang
Change = Callable[[Path], object]


def put(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def edit(name: str, before: str, after: str) -> Change:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(before, after))


def instead(name: str, plant: Change) -> Change:
    """Something else where a file was."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        plant(folder / name)

    return change


def cut_off(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def end_after_a_row(path: Path) -> None:
    """Leave an Arrow stream without what it ends with: as much as was written when a disk was full."""
    os.truncate(path, path.stat().st_size - 8)


def damage(path: Path) -> None:
    """Offsets of an Arrow file that lead out of it."""
    content = bytearray(path.read_bytes())
    place = content.rindex(b"say 2") - 64
    content[place : place + 56] = b"\x7f" * 56
    path.write_bytes(content)


def not_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"say 1", b"say \xe9"))


def info(**features: Any) -> Change:
    return put("dataset_info.json", json.dumps({"features": features}).encode())


ARROW = r"train/data.arrow: cannot be read \(.*\); save the dataset again"
SAVED_REFUSED: dict[str, tuple[Change, str]] = {
    "an Arrow file that is cut off": (lambda split: cut_off(split / "data.arrow", 0.5), ARROW),
    "an Arrow file that lacks its end": (lambda split: end_after_a_row(split / "data.arrow"), ARROW),
    "an Arrow file of nothing": (put("data.arrow", b""), ARROW),
    "an Arrow file of text": (put("data.arrow", b"text " * 100), ARROW),
    "an Arrow file with damage": (lambda split: damage(split / "data.arrow"), ARROW),
    "an Arrow file whose text is not UTF-8": (lambda split: not_text(split / "data.arrow"), ARROW),
    "no Arrow file": (lambda split: (split / "data.arrow").unlink(), ARROW),
    "a pipe": (instead("data.arrow", os.mkfifo), ARROW),
    "a folder": (instead("data.arrow", Path.mkdir), ARROW),
    "no list of files": (
        put("state.json", b"{}"),
        r"state.json: cannot be understood \(it lacks '_data_files'\); save",
    ),
    "files without names": (
        put("state.json", b'{"_data_files": [1]}'),
        r"state.json: cannot be understood \(.*\); save",
    ),
    "no files": (put("state.json", b'{"_data_files": []}'), r"set 'train' has no utterance that can be used; correct"),
    "no JSON": (put("state.json", b"{"), r"state.json: cannot be read \(it is not JSON: .*\); save the dataset again"),
    "a list for a mapping": (put("dataset_info.json", b"[]"), r"dataset_info.json: is no mapping, so the dataset was"),
    "no features": (put("dataset_info.json", b"{}"), r"dataset_info.json: has no column of type Audio; name one with"),
    "a column that the file lacks": (
        info(audio={"_type": "Audio"}, text={"_type": "Value"}),
        r"data.arrow: has no column 'text', which dataset_info.json names; save the dataset again",
    ),
    "no audio": (info(sentence={"_type": "Value"}), r"has no column of type Audio; name one with --audio COLUMN"),
    "no text": (info(audio={"_type": "Audio"}), r"has no column sentence, text, .*; name one with --text COLUMN"),
    "no dataset": (
        lambda split: shutil.rmtree(split),
        r"train/dataset_info.json: cannot be read \(No such file or dir",
    ),
    "no list of splits": (
        lambda split: (split.parent / "dataset_dict.json").write_text("{}"),
        r"dataset_dict.json: cannot be understood \(it lacks 'splits'\); save the dataset again",
    ),
    "splits without names": (
        lambda split: (split.parent / "dataset_dict.json").write_text('{"splits": [1]}'),
        r"dataset_dict.json: cannot be understood \(.*\); save the dataset again",
    ),
    "splits that are one set": (
        lambda split: (split.parent / "dataset_dict.json").write_text('{"splits": ["train", "-train"]}'),
        r"two of its splits, train, -train, would be the same set; rename one",
    ),
    "parquet files": (
        lambda split: [path.unlink() for path in split.parent.rglob("*.json")],
        r"holds neither dataset_dict.json nor state.json, so it was not saved with save_to_disk; load it with",
    ),
}


@pytest.mark.parametrize("kind", SAVED_REFUSED)
def test_a_damaged_dataset_is_refused(kind: str, tmp_path: Path) -> None:
    change, words = SAVED_REFUSED[kind]
    folder = write_hugging_face(tmp_path / "saved")
    change(folder / "train")
    assert_refused(run_prepare("hf", folder, "--out", tmp_path / "out"), words)


def test_odd_rows_of_a_dataset_are_found(tmp_path: Path) -> None:
    missing = {"bytes": None, "path": str(tmp_path / "none.wav")}
    rows = [
        make_row(50, audio=None),
        make_row(51, audio={"bytes": None, "path": None}),
        make_row(52, audio={"bytes": b"", "path": None}),
        make_row(53, audio={"bytes": b"no audio", "path": "a.wav"}),
        make_row(54, audio=missing),
        make_row(55, sentence=None),
        make_row(56, sentence=" \t\n"),
        make_row(57, sentence="a\nb\0c\td"),
        make_row(58, client_id=None),
        make_row(59, client_id="a/../b\n"),
        make_row(0),
    ]
    ended = run_prepare("hf", write_hugging_face(tmp_path / "saved", *rows), "--out", tmp_path / "out")
    found = {"no-recording": 2, "missing": 2, "unreadable": 1, "no-transcript": 1, "no-text": 1, "same-audio": 1}
    assert_prepared(ended, tmp_path / "out", UTTERANCES + len(rows), found)


@pytest.mark.parametrize(
    ("kinds", "options", "words"),
    [
        ({"sentence": pa.binary()}, (), r"column 'sentence' is binary, which is no text; name another with --text"),
        ({"sentence": pa.list_(pa.string())}, (), r"column 'sentence' is list<.*>, which is no text; name another"),
        ({"audio": pa.string()}, (), r"column 'audio' is string, which is no audio; name another with --audio COLUMN"),
        ({}, ("--text", "audio"), r"column 'audio' is struct<.*>, which is no text; name another with --text COLUMN"),
        ({}, ("--text", "none"), r"has no column 'none' for --text; known: audio, client_id, sentence"),
        ({}, ("--speaker", "who"), r"has no column 'who' for --speaker; known: audio, client_id, sentence"),
        ({}, ("--audio", "sentence"), r"column 'sentence' is string, which is no audio; name another with --audio"),
    ],
)
def test_columns_of_another_kind_are_refused(
    kinds: dict[str, Any], options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    folder = write_hugging_face(tmp_path / "saved", kinds={**ROW_KINDS, **kinds})
    assert_refused(run_prepare("hf", folder, *options, "--out", tmp_path / "out"), words)


def write_librispeech(folder: Path) -> Path:
    for speaker, (part, count) in enumerate((("train-clean-5", 3), ("dev-clean-2", 1))):
        book = folder / part / f"{speaker}" / "1"
        ids = [f"{speaker}-1-{number:04d}" for number in range(count)]
        for number, id in enumerate(ids):
            write_noise(book / f"{id}.flac", 10 * speaker + number)
        lines = [f"{id} SAY {speaker} {number}\n" for number, id in enumerate(ids)]
        (book / f"{speaker}-1.trans.txt").write_text("".join(lines))
    return folder


TEXT, LAST = "train-clean-5/0/1/0-1.trans.txt", "train-clean-5/0/1/0-1-0002.flac"
RECIPE: dict[str, tuple[Change, dict[str, int]]] = {
    "a missing file": (lambda folder: (folder / LAST).unlink(), {"missing": 1}),
    "empty text": (edit(TEXT, "SAY 0 2", "?"), {"no-text": 1}),
    "a file cut off": (lambda folder: cut_off(folder / LAST, 0.7), {"truncated": 1}),
}
RECIPE_REFUSED: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "text for audio": (put(LAST, b"no audio"), (), r"lhotse recipe librispeech of .*: cannot be read \(.*\); give f"),
    "an empty folder": (shutil.rmtree, (), r"no such folder; give what the recipe librispeech reads"),
    "a line without text": (edit(TEXT, " SAY 0 2", ""), (), r"cannot be read \(.*\); give folde"),
    "an unknown option": (lambda folder: None, ("--option", "part=x"), r"--option part: recipe librispeech has no"),
    "no option": (lambda folder: None, ("--option", "parts"), r"--option parts: must be KEY=VALUE, a parameter of"),
    "another kind of option": (
        lambda folder: None,
        ("--option", "num_jobs=x"),
        r"--option num_jobs=x: must be a number",
    ),
}


@pytest.mark.parametrize("kind", RECIPE)
def test_what_a_recipe_s_corpus_lacks_is_found(kind: str, tmp_path: Path) -> None:
    change, found = RECIPE[kind]
    folder = write_librispeech(tmp_path / "LibriSpeech")
    change(folder)
    ended = run_prepare("lhotse", "librispeech", folder, "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES, found)


@pytest.mark.parametrize("kind", RECIPE_REFUSED)
def test_a_folder_or_option_that_a_recipe_does_not_take_is_refused(kind: str, tmp_path: Path) -> None:
    change, options, words = RECIPE_REFUSED[kind]
    folder = write_librispeech(tmp_path / "LibriSpeech")
    change(folder)
    assert_refused(run_prepare("lhotse", "librispeech", folder, *options, "--out", tmp_path / "out"), words)


def test_a_recipe_that_there_is_not_is_refused(tmp_path: Path) -> None:
    words = r"lhotse has no recipe 'librispech'; did you mean 'librispeech'\?"
    assert_refused(run_prepare("lhotse", "librispech", tmp_path, "--out", tmp_path / "out"), words)
