"""Folders as `save_to_disk` of the library datasets (5.2) writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_layouts import FEATURES, TEXT, encode_audio, save_split, save_splits
from recordings import describe, list_found, noise, read_samples, write_noise

from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.sources.hugging_face import read_hugging_face
from model.errors import UserError


def encode(seed: int, form: str = "WAV") -> dict[str, Any]:
    return encode_audio(noise(seed, 1.0), 16_000, f"{seed}.{form.lower()}")


def row(seed: int, **fields: Any) -> dict[str, Any]:
    return {"audio": encode(seed), "sentence": f"Sentence {seed}", "client_id": f"c{seed}", **fields}


def prepare(folder: Path, **columns: str) -> Prepared:
    return prepare_corpus(read_hugging_face(folder, **columns), folder.parent / "out", Preparation())


def test_splits_are_sets_whose_audio_is_in_the_arrow_files(tmp_path: Path) -> None:
    splits = {"train": [row(0), row(1, audio=encode(1, "FLAC")), row(2)], "validation": [row(3)], "test": [row(4)]}
    prepared = prepare(save_splits(tmp_path / "my voice", splits, files=2))
    assert describe(prepared.corpus) == {  # the two files hold rows 0 and 2, then row 1
        "train": [
            ("train-000000", "sentence 0", "c0"),
            ("train-000001", "sentence 2", "c2"),
            ("train-000002", "sentence 1", "c1"),
        ],
        "validation": [("validation-000000", "sentence 3", "c3")],
        "test": [("test-000000", "sentence 4", "c4")],
    }
    assert (prepared.corpus.name, prepared.lines) == ("my-voice", [])
    samples = read_samples(prepared.corpus)
    for id, seed in (("train-000000", 0), ("train-000001", 2), ("train-000002", 1), ("test-000000", 4)):
        np.testing.assert_allclose(samples[id], noise(seed, 1.0), atol=1 / 32768)
    with pytest.raises(UserError, match=r"of-00002.arrow lies in archives, which training cannot read in place; leave"):
        prepare_corpus(read_hugging_face(tmp_path / "my voice"), tmp_path / "other", Preparation(copies=False))


def test_a_single_split_is_divided(tmp_path: Path) -> None:
    rows = [row(number, sentence=f"This is sentence {number}") for number in range(30)]
    alone = prepare(save_split(tmp_path / "alone", rows)).corpus
    assert list(alone.sets) == ["train", "dev", "test"]
    assert sorted(id for found in describe(alone).values() for id, _, _ in found) == [
        f"alone-{number:06d}" for number in range(30)
    ]


def test_audio_that_is_only_named_is_left_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {"train": tmp_path / "a.wav", "dev": tmp_path / "here" / "b.wav", "test": tmp_path / "saved" / "c.wav"}
    samples = {name: write_noise(path, seed, 1.0) for seed, (name, path) in enumerate(paths.items())}
    named = {"train": str(paths["train"]), "dev": "b.wav", "test": "c.wav"}
    splits = {name: [row(0, sentence=name, audio={"bytes": None, "path": path})] for name, path in named.items()}
    save_splits(tmp_path / "saved", splits)
    monkeypatch.chdir(tmp_path / "here")
    source = read_hugging_face(tmp_path / "saved")
    corpus = prepare_corpus(source, tmp_path / "out", Preparation(copies=False)).corpus
    assert [entry.audio.file for name in paths for entry in corpus.entries(name)] == [
        str(one) for one in paths.values()
    ]
    for name, expected in samples.items():
        np.testing.assert_array_equal(read_samples(corpus)[f"{name}-000000"], expected)


def test_columns_may_be_chosen(tmp_path: Path) -> None:
    features = {"near": FEATURES["audio"], "far": FEATURES["audio"], "raw": TEXT, "text": TEXT, "who": TEXT}
    splits = {
        name: [{"near": encode(seed), "far": encode(seed + 10), "raw": f"Raw {seed}", "text": "no", "who": "eve"}]
        for seed, name in enumerate(("train", "dev"))
    }
    folder = save_splits(tmp_path / "saved", splits, features=features)
    prepared = prepare(folder, audio="far", text="raw", speaker="who")
    assert describe(prepared.corpus)["dev"] == [("dev-000000", "raw 1", "eve")]
    np.testing.assert_allclose(read_samples(prepared.corpus)["dev-000000"], noise(11, 1.0), atol=1 / 32768)
    assert [segment.text for segment in read_hugging_face(folder, audio="near").segments] == ["no", "no"]
    assert read_hugging_face(folder, audio="near").segments[0].speaker is None
    for columns, message in (
        ({}, r"dataset_info.json: has several columns with audio, near, far; name one with --audio COLUMN"),
        ({"audio": "faar"}, r"dataset_info.json: has no column 'faar' for --audio; did you mean 'far'\?"),
        ({"audio": "far", "text": "rwa"}, r"has no column 'rwa' for --text; did you mean 'raw'\?"),
        ({"audio": "far", "speaker": "x"}, r"has no column 'x' for --speaker; known: far, near, raw, text, who"),
        ({"audio": "text"}, r"arrow: column 'text' is string, which is no audio; name another with --audio COLUMN"),
    ):
        with pytest.raises(UserError, match=message):
            read_hugging_face(folder, **columns)


def test_rows_without_text_or_audio_are_found(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, sentence=None),
        row(2, sentence="?"),
        row(3, audio=None),
        row(4, audio={"bytes": None, "path": None}),
        row(5, audio={"bytes": b"no audio", "path": "x.wav"}),
        row(6, audio={"bytes": b"", "path": "x.wav"}),
        row(7, client_id=None),
    ]
    prepared = prepare(save_splits(tmp_path / "saved", {"train": rows, "dev": [row(8)]}))
    found = list_found(prepared.findings)
    unreadable = found.pop("unreadable")
    assert found == {
        "no-transcript": ["train row 1"],
        "no-recording": ["train row 3", "train row 4"],
        "no-text": ["train row 2: basic: '?'"],
        "missing": [
            "train row 6: data-00000-of-00001.arrow[6], row 6 of data-00000-of-00001.arrow holds no audio",
        ],
    }
    assert len(unreadable) == 1
    assert unreadable[0].startswith("train row 5: data-00000-of-00001.arrow[5], ")
    assert [speaker for _, _, speaker in describe(prepared.corpus)["train"]] == ["c0", "unknown"]


def damage(folder: Path, name: str, content: str) -> None:
    (folder / "train" / name).write_text(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "dataset_dict.json").unlink(),
            r"saved: holds neither dataset_dict.json nor state.json, so it was not saved with save_to_disk; load",
        ),
        (
            lambda folder: damage(folder, "state.json", "{"),
            r"state.json: cannot be read \(it is not JSON: .*\); save the dataset again",
        ),
        (
            lambda folder: (folder / "train" / "dataset_info.json").unlink(),
            r"train/dataset_info.json: cannot be read \(No such file or directory\); save the dataset again",
        ),
        (
            lambda folder: damage(folder, "dataset_info.json", '{"features": {"sentence": {"_type": "Value"}}}'),
            r"dataset_info.json: has no column of type Audio; name one with --audio COLUMN",
        ),
        (
            lambda folder: damage(folder, "dataset_info.json", json.dumps({"features": {"audio": FEATURES["audio"]}})),
            r"dataset_info.json: has no column sentence, text, .*; name one with --text COLUMN",
        ),
        (
            lambda folder: damage(folder, "data-00000-of-00001.arrow", "no table"),
            r"train/data-00000-of-00001.arrow: cannot be read \(.*\); save the dataset again",
        ),
        (
            lambda folder: (folder / "train" / "data-00000-of-00001.arrow").unlink(),
            r"train/data-00000-of-00001.arrow: cannot be read \(.*\); save the dataset again",
        ),
    ],
)
def test_a_folder_that_is_no_saved_dataset_is_an_error_of_one_line(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = save_splits(tmp_path / "saved", {"train": [row(0)], "dev": [row(1)]})
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_hugging_face(folder)
    assert "\n" not in str(caught.value)
