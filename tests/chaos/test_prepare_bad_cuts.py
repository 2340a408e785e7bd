"""Cuts of lhotse's manifests that say what cannot be, or what is odd: found and listed, or refused in one line."""

from __future__ import annotations

import copy
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
)
from recordings import write_noise

Item = dict[str, Any]
Change = Callable[[Any], object]  # of a cut, or of what is at a path
SUPERVISION, RECORDING = ("supervisions", 0), ("recording",)


def put(*path: str | int, value: Any) -> Change:
    """Put a value at a place in a cut."""

    def change(cut: Item) -> None:
        place: Any = cut
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def lack(*path: str | int) -> Change:
    """Take what is at a place in a cut."""

    def change(cut: Item) -> None:
        place: Any = cut
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def mix(cut: Item) -> None:
    tracks = [{"cut": make_cut(Path(), f"track-{number}"), "offset": number} for number in range(2)]
    cut.update({"type": "MixedCut", "tracks": tracks})


def say_twice(cut: Item) -> None:
    cut["supervisions"].append({**cut["supervisions"][0], "id": "bad-s2", "start": 7.0})


# What a cut says of its recording of half a second, and the check that finds it; None where it is good after all.
FOUND: dict[str, tuple[Change, str | None]] = {
    "features alone": (lack("recording"), "no-recording"),
    "no recording": (put("recording", value=None), "no-recording"),
    "no supervision": (put("supervisions", value=[]), "no-transcript"),
    "a supervision without text": (lack(*SUPERVISION, "text"), "no-transcript"),
    "a supervision whose text is null": (put(*SUPERVISION, "text", value=None), "no-transcript"),
    "empty text": (put(*SUPERVISION, "text", value=""), "no-text"),
    "text with line breaks and tabs": (put(*SUPERVISION, "text", value="a\n\tb\r\0c"), None),
    "text with a lone surrogate": (put(*SUPERVISION, "text", value="a \ud800"), "no-unicode"),
    "an id with a lone surrogate": (put("id", value="a\udfff"), "no-unicode"),
    "a speaker with a lone surrogate": (put(*SUPERVISION, "speaker", value="\ud800"), "no-unicode"),
    "a path with a byte that is not UTF-8": (put(*RECORDING, "sources", 0, "source", value="\udce9.wav"), "missing"),
    "a pair of surrogates, which is a character": (put(*SUPERVISION, "text", value="a \U0001d54f"), None),
    "an id with a line break": (put("id", value="a\nb\tc"), None),
    "an id of nothing": (put("id", value=""), None),
    "a mixed cut": (mix, "unreadable"),
    "a padding cut": (lambda cut: cut.clear() or cut.update({"id": "p", "type": "PaddingCut"}), "no-recording"),
    "a command": (put(*RECORDING, "sources", 0, "type", value="command"), "pipe"),
    "an address": (put(*RECORDING, "sources", 0, "type", value="url"), "unreadable"),
    "audio in the manifest": (put(*RECORDING, "sources", 0, "type", value="memory"), "unreadable"),
    "a recording that is changed": (put(*RECORDING, "transforms", value=[{"name": "Speed"}]), "unreadable"),
    "a recording without files": (put(*RECORDING, "sources", value=[]), "no-channel"),
    "a file without channels": (put(*RECORDING, "sources", 0, "channels", value=[]), "no-channel"),
    "a channel that the recording lacks": (put("channel", value=5), "no-channel"),
    "a negative channel": (put("channel", value=-1), "no-channel"),
    "no channel but its supervision's": (put("channel", value=[]), None),
    "a start after the end": (put("start", value=7.0), "outside"),
    "a start beyond all frames": (put("start", value=1e300), "outside"),
    "a negative start": (put("start", value=-0.25), "outside"),
    "no duration": (put(*SUPERVISION, "duration", value=0.0), "outside"),
    "a negative duration": (put(*SUPERVISION, "duration", value=-0.1), "outside"),
    "more than there is": (put(*SUPERVISION, "duration", value=2.0), "beyond-end"),
    "a recording that is said to be longer": (put(*RECORDING, "duration", value=36_000.0), None),
    "another rate than it has": (put(*RECORDING, "sampling_rate", value=-8000), None),
}
LEFT_OUT = {
    "no-recording",
    "no-transcript",
    "no-text",
    "no-unicode",
    "unreadable",
    "missing",
    "pipe",
    "no-channel",
    "outside",
}

# What no cut may say, and the words of the line that refuses it.
REFUSED: dict[str, tuple[Change, str]] = {
    "no id": (lack("id"), r"it lacks 'id'"),
    "an id that is a number": (put("id", value=7), r"its id is 7, but must be text"),
    "an id that is null": (put("id", value=None), r"its id is None, but must be text"),
    "text that is a number": (put(*SUPERVISION, "text", value=7), r"its text is 7, but must be text"),
    "text that is a list": (put(*SUPERVISION, "text", value=["a"]), r"its text is \['a'\], but must be text"),
    "no start": (lack("start"), r"it lacks 'start'"),
    "a start of words": (put("start", value="0.0"), r"cut_train|cannot be understood \("),
    "a start that is no number": (put("start", value=float("nan")), r"from nan to nan s"),
    "a duration without end": (put(*SUPERVISION, "duration", value=float("inf")), r"from 0.0 to inf s"),
    "a duration that is null": (put(*RECORDING, "duration", value=None), r"cannot be understood \("),
    "a source that is a name": (put(*RECORDING, "sources", value=["a.wav"]), r"cannot be understood \("),
    "a source without a type": (lack(*RECORDING, "sources", 0, "type"), r"it lacks 'type'"),
    "a source that is a number": (put(*RECORDING, "sources", 0, "source", value=7), r"cannot be understood \("),
    "a name that no file can have": (put(*RECORDING, "sources", 0, "channels", value=0), r"cannot be understood \("),
    "a recording that is a name": (put("recording", value="bad"), r"cannot be understood \("),
    "supervisions that are a mapping": (put("supervisions", value={"text": "a"}), r"cannot be understood \("),
    "a transform without a name": (put(*RECORDING, "transforms", value=[{}]), r"it lacks 'name'"),
    "the id of another cut": (put("id", value="train-0"), r"1 of its utterances: an id that another utterance has too"),
}


def spoil(folder: Path, change: Change) -> list[Path]:
    write_noise(folder / "audio" / "bad.wav", 50)
    cut = copy.deepcopy(make_cut(folder / "audio" / "bad.wav", "bad"))
    change(cut)
    return write_cuts(folder, cut)


@pytest.mark.parametrize("kind", FOUND)
def test_an_odd_cut_is_in_the_corpus_or_found(kind: str, tmp_path: Path) -> None:
    change, check = FOUND[kind]
    ended = run_prepare("manifest", *spoil(tmp_path / "source", change), "--out", tmp_path / "out")
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, {check: 1} if check else {})
    assert corpus.sets["train"].utterances == (3 if check in LEFT_OUT else 4)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_cut_that_cannot_be_meant_is_refused_in_a_line_that_names_it(kind: str, tmp_path: Path) -> None:
    change, words = REFUSED[kind]
    ended = run_prepare("manifest", *spoil(tmp_path / "source", change), "--out", tmp_path / "out")
    assert_refused(ended, rf"cuts_train.jsonl line 4.*{words}|{words}.*cuts_train.jsonl line 4")


def test_of_several_supervisions_the_one_outside_is_left_out(tmp_path: Path) -> None:
    ended = run_prepare("manifest", *spoil(tmp_path / "source", say_twice), "--out", tmp_path / "out")
    assert_prepared(ended, tmp_path / "out", UTTERANCES + 2, {"outside": 1})
