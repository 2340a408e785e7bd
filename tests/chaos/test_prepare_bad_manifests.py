"""Files and folders of lhotse's manifests that are damaged, or that are none: refused in one line."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.bad_sources import (
    UTTERANCES,
    assert_prepared,
    assert_refused,
    make_cut,
    run_prepare,
    write_cuts,
    write_lines,
    write_shar,
)

Item = dict[str, Any]
Change = Callable[[Path], object]

NESTED = b"[" * 100_000
# What a manifest's file has after its cuts, and the words of the line that refuses it.
LINES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{'id': 1}", r"cuts_train.jsonl: line 4 is not JSON \(.*\); write it with lhotse again"),
    "half a line": (b'{"id": "a", "sta', r"cuts_train.jsonl: line 4 is not JSON \(.*\); write it"),
    "a list": (b"[1, 2]", r"cuts_train.jsonl: line 4 is no JSON object, but '\[1, 2\]'; write it"),
    "lists in lists without end": (NESTED, r"cuts_train.jsonl: line 4 is not JSON \(.*\); write it"),
    "digits without end": (b'{"start": ' + b"9" * 5000 + b"}", r"cuts_train.jsonl: line 4 is not JSON \(.*\); write"),
    "what is not UTF-8": (b'{"id": "\xe9"}', r"cuts_train.jsonl: cannot be read \('utf-8' codec can't decode .*\)"),
    "a zero byte": (b"\0", r"cuts_train.jsonl: line 4 is not JSON \(.*\); write it with lhotse again"),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_is_no_item_is_refused(kind: str, tmp_path: Path) -> None:
    line, words = LINES[kind]
    ended = run_prepare("manifest", *write_cuts(tmp_path / "source", line), "--out", tmp_path / "out")
    assert_refused(ended, words)
    assert len(ended.err) < 500


def cut_off(path: Path) -> None:
    """Leave two thirds of a file."""
    os.truncate(path, path.stat().st_size * 2 // 3)


def in_gzip(damage: Callable[[Path], object]) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        damage(packed)
        return packed

    return change


def replace(content: bytes) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return change


def rename(name: str) -> Callable[[Path], Path]:
    return lambda path: path.rename(path.with_name(name))


# What becomes of the file of a set, and the words of the line that refuses what there is then.
FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an empty file": (replace(b""), r"cuts_train.jsonl: is empty; give a manifest that has items, or leave it out"),
    "blank lines": (replace(b"\n \n"), r"cuts_train.jsonl: is empty; give a manifest that has items"),
    "a compressed file that is cut off": (in_gzip(cut_off), r"cuts_train.jsonl.gz: cannot be read \(Compressed file"),
    "text that is said to be compressed": (
        in_gzip(lambda path: path.write_text("no gzip")),
        r"cuts_train.jsonl.gz: cannot be read \(Not a gzipped file .*\); give the path of a whole manifest",
    ),
    "a compressed file that is empty": (in_gzip(lambda path: path.write_bytes(b"")), r"jsonl.gz: is empty; give"),
    "another name": (rename("cuts_train.json"), r"cuts_train.json: is no manifest by its name; give a file that ends"),
    "items of another kind": (replace(b'{"type": "array"}'), r"holds neither cuts nor recordings nor supervisions"),
    "recordings alone": (
        replace(b'{"id": "a", "sources": []}'),
        r"its supervisions are missing; give the two together",
    ),
    "nothing": (
        lambda path: path.unlink() or path,
        r"cuts_train.jsonl: no such file or folder; give a lhotse manifest",
    ),
    "a folder without manifests": (
        lambda path: path.parent / "audio",
        r"audio: holds no lhotse manifest; give a folder",
    ),
    "a name that is too long": (lambda path: path.with_name("x" * 300), r"x+: .*[Ff]ile name too long"),
    "a link to itself": (lambda path: path.unlink() or path.symlink_to(path) or path, r"no such file or folder"),
    "the other set's file": (lambda path: path.with_name("cuts_dev.jsonl"), r"are the same set; give the files of one"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_manifest_is_refused(kind: str, tmp_path: Path) -> None:
    change, words = FILES[kind]
    first, second = write_cuts(tmp_path / "source")
    assert_refused(run_prepare("manifest", change(first), second, "--out", tmp_path / "out"), words)


def write_pair(folder: Path, recordings: list[Item], supervisions: list[Item]) -> Path:
    """Recordings and supervisions of good cuts, and these, in files of their own."""
    for path in write_cuts(folder):
        cuts = [make_cut(folder / "audio" / f"{id}.wav", id) for id in ("dev-0",)]
        if "train" in path.name:
            cuts = [make_cut(folder / "audio" / f"train-{number}.wav", f"train-{number}") for number in range(3)]
        more = (recordings, supervisions) if "train" in path.name else ([], [])
        kinds = (
            ("recordings", [cut["recording"] for cut in cuts]),
            ("supervisions", [cut["supervisions"][0] for cut in cuts]),
        )
        for (kind, items), added in zip(kinds, more, strict=True):
            write_lines(
                folder / f"{kind}{path.name.removeprefix('cuts').replace('.jsonl', '.jsonl.gz')}", items + added
            )
        path.unlink()
    return folder


def test_recordings_and_supervisions_without_each_other_are_found(tmp_path: Path) -> None:
    cut = make_cut(tmp_path / "none.wav", "bad")
    folder = write_pair(tmp_path / "source", [cut["recording"]], [{**cut["supervisions"][0], "recording_id": "none"}])
    ended = run_prepare("manifest", folder, "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES + 2, {"no-recording": 1, "no-transcript": 1})


def test_a_recording_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    again = make_cut(tmp_path / "other.wav", "train-1")["recording"]
    folder = write_pair(tmp_path / "source", [again], [])
    words = r"recordings_train.jsonl.gz line 4: has recording 'train-1-recording' again, after .* line 2; keep one"
    assert_refused(run_prepare("manifest", folder, "--out", tmp_path / "out"), words)


def drop_last_member(path: Path) -> None:
    """Cut an archive off after all but its last member."""
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    os.truncate(path, last.offset)


def add_features(folder: Path) -> None:
    shutil.copy(folder / "recording.000000.tar", folder / "features.000000.tar")


def empty_archive(folder: Path) -> None:
    tarfile.open(folder / "recording.000000.tar", "w").close()


# What becomes of the first shard of a Shar folder, and what is found then.
SHARDS: dict[str, tuple[Change, dict[str, int]]] = {
    "audio that is cut off between two members": (
        lambda folder: drop_last_member(folder / "recording.000000.tar"),
        {"no-recording": 1},
    ),
    "features beside the audio": (add_features, {}),
}
UNREADABLE_SHAR = r"train/recording.000000.tar: cannot be read \(.*\); write the Shar folder again"
SHARDS_REFUSED: dict[str, tuple[Change, str]] = {
    "audio that is cut off in a member": (lambda folder: cut_off(folder / "recording.000000.tar"), UNREADABLE_SHAR),
    "an archive of nothing": (lambda folder: (folder / "recording.000000.tar").write_bytes(b""), UNREADABLE_SHAR),
    "an archive that is none": (
        lambda folder: (folder / "recording.000000.tar").write_bytes(b"x" * 9999),
        UNREADABLE_SHAR,
    ),
    "cuts that are cut off": (
        lambda folder: cut_off(folder / "cuts.000000.jsonl.gz"),
        r"train/cuts.000000.jsonl.gz: cannot be read \(.*\); give the path of a whole manifest",
    ),
    "a cut without an id": (
        lambda folder: write_lines(folder / "cuts.000000.jsonl.gz", [{"type": "MonoCut", "channel": 0}]),
        r"cuts.000000.jsonl.gz line 1: cannot be understood \(it lacks 'id'\); write the manifest with lhotse again",
    ),
    "no audio": (
        lambda folder: (folder / "recording.000000.tar").unlink(),
        r"set 'train' has no utterance that can be used \(3 left out: the source has no such recording \(train cuts",
    ),
    "an archive without members": (
        empty_archive,
        r"set 'train' has no utterance that can be used \(3 left out: the source has no such recording \(train cuts",
    ),
    "no cuts": (
        lambda folder: write_lines(folder / "cuts.000000.jsonl.gz", []),
        r"set 'train' has no utterance that can be used; correct it, or leave it out with --set train=none",
    ),
}


@pytest.mark.parametrize("kind", SHARDS)
def test_audio_that_a_shard_lacks_is_found(kind: str, tmp_path: Path) -> None:
    change, found = SHARDS[kind]
    train, dev = write_shar(tmp_path / "source")
    change(train)
    ended = run_prepare("manifest", train, dev, "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES, found)


@pytest.mark.parametrize("kind", SHARDS_REFUSED)
def test_a_damaged_shard_is_refused(kind: str, tmp_path: Path) -> None:
    change, words = SHARDS_REFUSED[kind]
    train, dev = write_shar(tmp_path / "source")
    change(train)
    assert_refused(run_prepare("manifest", train, dev, "--out", tmp_path / "out"), words)
