"""Kaldi's data folders that are damaged, or that say what cannot be: found and listed, or refused in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chaos.bad_sources import UTTERANCES, assert_prepared, assert_refused, run_prepare, write_kaldi
from recordings import noise

pytestmark = pytest.mark.timeout(120)  # none of it may hang
Change = Callable[[Path], object]


def add(name: str, *lines: str) -> Change:
    """Lines at the end of a file of the first folder."""

    def change(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.write("".join(f"{line}\n" for line in lines).encode())

    return change


def put(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def edit(name: str, before: bytes, after: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes().replace(before, after))


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def with_channel(plant: Callable[[Path], object], name: str = "bad.wav") -> Change:
    """One more recording, with its channel, whatever it is."""

    def change(folder: Path) -> None:
        plant(folder / name)
        add("wav.scp", f"bad {folder / name}")(folder)
        add("segments", "bad bad 0 0.5")(folder)
        add("text", "bad spoilt")(folder)
        add("reco2file_and_channel", "bad bad A")(folder)

    return change


def write_stereo(path: Path) -> None:
    soundfile.write(path, np.stack([noise(50), noise(51)], axis=1), 16_000)


# What becomes of the folder of the train set, how many utterances there are more, and what is found then.
FOUND: dict[str, tuple[Change, int, dict[str, int]]] = {
    "segments of an unknown recording": (
        both(add("segments", "bad none 0 1"), add("text", "bad spoilt")),
        1,
        {"no-recording": 1},
    ),
    "segments without text": (add("segments", "bad train 0 1"), 1, {"no-transcript": 1}),
    "text without a segment": (add("text", "bad spoilt"), 1, {"no-recording": 1}),
    "text of nothing": (both(add("segments", "bad train 0 1"), add("text", "bad")), 1, {"no-text": 1}),
    "a recording without a segment": (add("wav.scp", "bad /none.wav"), 1, {"no-transcript": 1}),
    "a recording that is missing": (
        both(add("wav.scp", "bad /none.wav"), add("segments", "bad bad 0 1"), add("text", "bad spoilt")),
        1,
        {"missing": 1},
    ),
    "a place in an archive": (
        both(add("wav.scp", "bad a.ark:17"), add("segments", "bad bad 0 1"), add("text", "bad spoilt")),
        1,
        {"unreadable": 1},
    ),
    "a segment after the end": (both(add("segments", "bad train 7 8"), add("text", "bad spoilt")), 1, {"outside": 1}),
    "a segment beyond numbers": (
        both(add("segments", "bad train 1e300 1e301"), add("text", "bad spoilt")),
        1,
        {"outside": 1},
    ),
    "a channel of a pipe that nobody writes to": (with_channel(os.mkfifo), 1, {"unreadable": 1}),
    "a channel of a device without end": (
        with_channel(lambda path: path.symlink_to("/dev/zero")),
        1,
        {"unreadable": 1},
    ),
    "a channel of text": (with_channel(lambda path: path.write_text("no audio")), 1, {"unreadable": 1}),
    "a channel of samples without a header": (
        with_channel(lambda path: path.write_bytes(bytes(9000)), "bad.raw"),
        1,
        {"unreadable": 1},
    ),
    "a channel of nothing": (with_channel(lambda path: None), 1, {"missing": 1}),
    "a channel that is there": (with_channel(write_stereo), 1, {}),
    "speakers of no utterance": (add("utt2spk", "nobody ann"), 0, {}),
    "lines of Windows": (both(*(edit(name, b"\n", b"\r\n") for name in ("text", "segments", "wav.scp"))), 0, {}),
    "byte order marks": (
        both(*(edit(name, b"train-0 ", b"\xef\xbb\xbftrain-0 ") for name in ("text", "segments", "utt2spk"))),
        0,
        {},
    ),
    "an id with slashes": (both(add("segments", "../bad train 0 0.4"), add("text", "../bad spoilt")), 1, {}),
    "an id that is too long for a file": (
        both(add("segments", f"{'x' * 5000} train 0 0.4"), add("text", f"{'x' * 5000} spoilt")),
        1,
        {},
    ),
    "text with terminal codes and zeros": (
        both(add("segments", "bad train 0 0.4"), add("text", "bad \x1b[31m \0")),
        1,
        {},
    ),
    "utt2spk that is a folder": (
        both(lambda folder: (folder / "utt2spk").unlink(), lambda folder: (folder / "utt2spk").mkdir()),
        0,
        {},
    ),
}
REFUSED: dict[str, tuple[Change, str]] = {
    "no text": (lambda folder: (folder / "text").unlink(), r"train: holds no text; give Kaldi data folders"),
    "a pipe for text": (
        both(lambda folder: (folder / "text").unlink(), lambda folder: os.mkfifo(folder / "text")),
        r"train: holds no text; give Kaldi data folders, with wav.scp and text",
    ),
    "empty files": (
        both(*(put(name, b"") for name in ("text", "segments", "wav.scp"))),
        r"set 'train' has no utterance that can be used; correct it, or leave it out with --set train=none",
    ),
    "no segment": (
        put("segments", b""),
        r"set 'train' has no utterance that can be used \(1 left out: a recording wit",
    ),
    "commands alone": (
        edit("wav.scp", b"\n", b" |\n"),
        r"set 'train' has no utterance that can be used \(3 left out: the recording is the output of a command, .*pipe",
    ),
    "a line twice": (add("text", "train-0 again"), r"text: line 4 has 'train-0' again, after line 1; keep one"),
    "a recording twice": (add("wav.scp", "train a.wav"), r"wav.scp: line 2 has 'train' again, after line 1; keep one"),
    "a recording of nothing": (add("wav.scp", "bad"), r"wav.scp: line 2 names no audio file for bad; add it"),
    "a segment of three fields": (add("segments", "bad train 0"), r"segments: line 4 has 3 fields, but must have 4"),
    "a segment that ends first": (
        add("segments", "bad train 2 1"),
        r"line 4 is from '2' to '1', but must have seconds",
    ),
    "a negative start": (add("segments", "bad train -1 1"), r"line 4 is from '-1' to '1', but must have seconds"),
    "no number": (add("segments", "bad train nan 1"), r"line 4 is from 'nan' to '1', but must have seconds"),
    "infinity": (add("segments", "bad train 0 inf"), r"line 4 is from '0' to 'inf', but must have seconds"),
    "words": (add("segments", "bad train 0 1,5"), r"line 4 is from '0' to '1,5', but must have seconds"),
    "a channel of three": (add("reco2file_and_channel", "train train C"), r"line 1 must have RECORDING FILE CHANNEL"),
    "what is not UTF-8": (put("text", b"train-0 caf\xe9\n"), r"text: is not UTF-8 text \(byte 11\); save it as UTF-8"),
    "the ids of another set": (
        both(edit("text", b"train-0", b"dev-0"), edit("segments", b"train-0", b"dev-0")),
        r"1 of its utterances: an id that another utterance has too \(dev dev-0: dev-0, as train dev-0\); correct",
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_odd_data_folders_are_in_the_corpus_or_found(kind: str, tmp_path: Path) -> None:
    change, more, found = FOUND[kind]
    train, dev = write_kaldi(tmp_path / "source")
    change(train)
    ended = run_prepare("kaldi", train, dev, "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES + more, found)


@pytest.mark.parametrize("kind", REFUSED)
def test_data_folders_that_cannot_be_meant_are_refused(kind: str, tmp_path: Path) -> None:
    change, words = REFUSED[kind]
    train, dev = write_kaldi(tmp_path / "source")
    change(train)
    assert_refused(run_prepare("kaldi", train, dev, "--out", tmp_path / "out"), words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "holds no wav.scp"),
        ("x" * 300, "File name too long"),
        ("loop", "holds no wav.scp"),
        ("a/..", "holds no"),
    ],
)
def test_a_data_folder_that_is_none_is_refused(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert_refused(run_prepare("kaldi", tmp_path / name, "--out", tmp_path / "out"), words)
