"""Rows of a table that say what cannot be, or what is odd: found and listed, or refused in one line that names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from chaos.bad_sources import UTTERANCES, Ended, assert_prepared, assert_refused, run_prepare, write_rows
from recordings import noise, write_noise

from model.corpora import parts
from model.corpora.corpus import Corpus

Row = dict[str, str]
DIGITS = "9" * 5000
FOUR = {"in case alone": ["Ann", "ann"], "in how an accent is written": ["\u00e9t\u00e9", "e\u0301te\u0301"]}

# What a row says of its recording of one second, and the checks that find it.
FOUND: dict[str, tuple[Row, dict[str, int]]] = {
    "a stretch after the end": ({"start": "2", "end": "3"}, {"outside": 1}),
    "a stretch that begins at the end": ({"start": "1"}, {"outside": 1}),
    "a stretch from a place beyond all numbers of frames": ({"start": "1e300"}, {"outside": 1}),
    "a stretch from and to beyond what can be multiplied": ({"start": "1e307", "end": "1.7e308"}, {"outside": 1}),
    "a stretch until after the end": ({"start": "0.1", "end": "1.5"}, {"beyond-end": 1}),
    "a stretch until nearly for ever": ({"end": "1e308"}, {"beyond-end": 1}),
    "a stretch of a sample": ({"start": "0.1", "end": "0.1001"}, {"short": 1}),
    "a stretch of less than a sample": ({"start": "0.1", "end": "0.1000000001"}, {"outside": 1}),
    "a channel that is not there": ({"channel": "1"}, {"no-channel": 1}),
    "a channel beyond all": ({"channel": "9999"}, {"no-channel": 1}),
    "no text": ({"text": ""}, {"no-text": 1}),
    "text of punctuation": ({"text": "?! ... \u2014"}, {"no-text": 1}),
    "text of what cannot be seen": ({"text": "\u200b\u00ad\ufeff"}, {"no-text": 1}),
    "text with a zero byte": ({"text": "a\0b"}, {}),
    "text with terminal codes": ({"text": "\x1b[31m"}, {}),
    "text of another script": ({"text": "\u0939\u093f\u0928\u094d\u0926\u0940"}, {}),
    "text of symbols beyond the basic plane": ({"text": "\U0001f600"}, {"no-text": 1}),
    "more text than can be said": ({"text": "word " * 20_000}, {"dense": 1}),
    "punctuation without end": ({"text": "?" * 100_000}, {"no-text": 1}),
    "a sentence of the dev set": ({"text": "Say, dev-0!"}, {"test-sentence": 1}),
    "a name that is too long for a file": ({"audio": f"{'x' * 300}.wav"}, {"unreadable": 1}),
    "a name that no file can have": ({"audio": "a\0b.wav"}, {"missing": 1}),
    "a name below a file": ({"audio": "bad.wav/x.wav"}, {"missing": 1}),
    "an address": ({"audio": "https://example.org/a.wav"}, {"missing": 1}),
    "a name above the root": ({"audio": f"{'../' * 50}a.wav"}, {"missing": 1}),
    "an id with slashes": ({"id": "../../a/b"}, {}),
    "an id of dots": ({"id": ".."}, {}),
    "an id of a dot": ({"id": "."}, {}),
    "an id like an option": ({"id": "--out"}, {}),
    "an id with a zero byte": ({"id": "a\0b"}, {}),
    "an id of another script that is long": ({"id": "\u540d" * 200}, {}),
    "an id that is too long for a file": ({"id": "x" * 5000}, {}),
    "a speaker with slashes": ({"speaker": "../ann"}, {}),
    "a set with dots": ({"set": "test-.."}, {}),
}

# What a row says that no row may, and the words of the line that refuses it.
REFUSED: dict[str, tuple[Row, str]] = {
    "an end before the start": ({"start": "2", "end": "1"}, r"line 6 ends at 1 s, but must end after its start, 2 s"),
    "an end at the start": ({"start": "0", "end": "0"}, r"line 6 ends at 0 s, but must end after its start"),
    "a negative start": ({"start": "-0.5"}, r"line 6 has start '-0.5', but must have seconds"),
    "a negative end": ({"end": "-1"}, r"line 6 has end '-1', but must have seconds"),
    "no number": ({"start": "nan"}, r"line 6 has start 'nan', but must have seconds"),
    "infinity": ({"end": "inf"}, r"line 6 has end 'inf', but must have seconds"),
    "words": ({"end": "1,5"}, r"line 6 has end '1,5', but must have seconds"),
    "digits without end": ({"end": DIGITS}, r"line 6 has end '9+\.*', but must have seconds"),
    "a channel of words": ({"channel": "left"}, r"line 6 has channel 'left', but must have 0, 1"),
    "a negative channel": ({"channel": "-1"}, r"line 6 has channel '-1', but must have 0, 1"),
    "a channel of digits without end": ({"channel": DIGITS}, r"line 6 has channel '9+\.*', but must have 0, 1"),
    "no audio": ({"audio": ""}, r"line 6 names no audio file; fill in its 'audio' field"),
    "no set": ({"set": ""}, r"line 6 is for set '', but must be for train, dev or test"),
    "another set": ({"set": "Train"}, r"line 6 is for set 'Train', .*did you mean 'train'\?"),
    "a set with a slash": ({"set": "test-a/b"}, r"line 6 is for set 'test-a/b', but must be for train"),
    "a set that is too long for a file": (
        {"set": f"test-{'x' * 300}"},
        r"set 'test-x+\.\.\.'.* 305 characters, but must",
    ),
    "audio of another row": ({"audio": "./train-1.wav"}, r"line 6 names .*train-1.wav again, after line 3; keep one"),
    "a field too many": ({"text": "a\tb"}, r"line 6 has 5 fields, but the header has 4; separate them by tabs"),
    "text with a line break": ({"text": "a\nb"}, r"line 6 has 2 fields, but the header has 4; separate them by tabs"),
    "text with a carriage return": ({"text": "a\rb"}, r"line 6 has 2 fields, but the header has 4; separate them"),
    "an id of another row": (
        {"id": "train-0"},
        r"1 of its utterances: an id that another utterance has too \(line 6: ",
    ),
}


def prepare_row(folder: Path, row: Row, *options: str) -> Ended:
    table = write_rows(folder / "source", {"audio": "bad.wav", **row})
    write_noise(folder / "source" / "bad.wav", 50, 1.0)
    return run_prepare("table", table, "--out", folder / "out", *options)


@pytest.mark.parametrize("kind", FOUND)
def test_an_odd_row_is_in_the_corpus_or_found(kind: str, tmp_path: Path) -> None:
    row, found = FOUND[kind]
    ended = prepare_row(tmp_path, row)
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, found)
    assert all(len(line) < 1000 for line in ended.out.splitlines()), "printed, a finding is short"
    kept = [entry for name in corpus.sets for entry in corpus.entries(name) if entry.id == row.get("id", "bad-0")]
    for entry in kept:
        assert Path(entry.audio.file).is_relative_to(tmp_path / "out" / "audio")
    assert corpus.folder == tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_row_that_cannot_be_meant_is_refused_in_a_line_that_names_it(kind: str, tmp_path: Path) -> None:
    row, words = REFUSED[kind]
    assert_refused(prepare_row(tmp_path, row), words)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def read(corpus: Corpus, id: str) -> np.ndarray:
    return next(corpus.read_samples(entry) for entry in corpus.entries("train") if entry.id == id)


@pytest.mark.parametrize("ids", FOUR.values(), ids=FOUR)
def test_ids_that_differ_little_are_two_utterances_with_their_own_audio(ids: list[str], tmp_path: Path) -> None:
    rows = [{"audio": f"bad-{number}.wav", "id": id} for number, id in enumerate(ids)]
    table = write_rows(tmp_path / "source", *rows)
    written = [write_noise(tmp_path / "source" / row["audio"], 50 + number) for number, row in enumerate(rows)]
    ended = run_prepare("table", table, "--out", tmp_path / "out")
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 2, {})
    for id, samples in zip(ids, written, strict=True):
        np.testing.assert_array_equal(read(corpus, id), samples)
    names = [Path(entry.audio.file).name for entry in corpus.entries("train")]
    assert len({name.casefold() for name in names}) == len(names), "one of them would replace the other on some disks"


def test_of_an_id_that_is_there_twice_the_first_utterance_keeps_its_own_audio(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "source", {"audio": "bad.wav", "id": "train-0"})
    write_noise(tmp_path / "source" / "bad.wav", 50, 1.0)
    ended = run_prepare("table", table, "--out", tmp_path / "out", "--rule", "same-id=drop")
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, {"same-id": 1})
    np.testing.assert_allclose(read(corpus, "train-0"), noise(0), atol=1 / 32768)


def test_an_utterance_that_two_checks_leave_out_is_one(tmp_path: Path) -> None:
    rules = ("--rule", "test-speaker=drop", "--rule", "test-sentence=drop", "--rule", "beyond-end=drop")
    table = write_rows(
        tmp_path / "source",
        {"audio": "a.wav", "speaker": "eve", "text": "the same", "end": "9"},
        {"audio": "b.wav", "speaker": "eve", "text": "the same"},
        {"audio": "c.wav", "speaker": "eve", "text": "the same", "set": "dev"},
    )
    for seed, name in enumerate("abc"):
        write_noise(tmp_path / "source" / f"{name}.wav", 50 + seed, 1.0)
    ended = run_prepare("table", table, "--out", tmp_path / "out", *rules)
    found = {"beyond-end": 1, "test-speaker": 1, "test-sentence": 1}
    corpus = assert_prepared(ended, tmp_path / "out", UTTERANCES + 3, found)
    assert corpus.sets["train"].utterances == 3


def test_audio_that_is_corrected_after_an_error_is_checked_again(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "source", {"audio": "bad.wav"})
    command = ("table", table, "--out", tmp_path / "out", "--rule", "missing=fatal", "--rule", "unreadable=fatal")
    with mock.patch.object(parts, "SEGMENTS", 2):
        assert_refused(
            run_prepare(*command), r"1 of its utterances: no such audio file \(line 6: bad.wav\); correct them"
        )
        checked = {path.name for path in (tmp_path / ".out.draft" / "parts").iterdir()}
        (tmp_path / "source" / "bad.wav").write_bytes(b"no audio")
        assert_refused(
            run_prepare(*command), r"1 of its utterances: audio cannot be read \(line 6: bad.wav, .*\); correct"
        )
        assert len({path.name for path in (tmp_path / ".out.draft" / "parts").iterdir()} - checked) == 1
        write_noise(tmp_path / "source" / "bad.wav", 50)
        ended = run_prepare(*command)
    assert_prepared(ended, tmp_path / "out", UTTERANCES + 1, {})
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# A whole table, and the words of the line that refuses it.
TABLES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda table: b"", r"table.tsv: is empty; give a header line"),
    "blank lines": (lambda table: b"\n\r\n \n", r"table.tsv: is empty; give a header line"),
    "a header alone": (lambda table: table.splitlines()[0], r"table.tsv: is empty; give a header line"),
    "no header": (lambda table: table.split(b"\n", 1)[1], r"unknown column 'train-0.wav' in line 1"),
    "UTF-16": (lambda table: table.decode().encode("utf-16"), r"table.tsv: is not UTF-8 text \(byte 0\); save it"),
    "Latin 1": (lambda table: table + "é\t\t\t\n".encode("latin-1"), r"table.tsv: is not UTF-8 text \(byte \d+\)"),
    "half a lone surrogate": (lambda table: table + b"\xed\xa0\x80", r"table.tsv: is not UTF-8 text"),
    "commas": (lambda table: table.replace(b"\t", b","), r"unknown column 'audio,text,set,id' .*separated by tabs"),
    "an unknown column": (lambda table: table.replace(b"text", b"txet", 1), r"unknown column 'txet'.*mean 'text'\?"),
    "no text": (lambda table: table.replace(b"text", b"start", 1), r"column 'text' is missing in line 1; add it"),
    "a column twice": (lambda table: table.replace(b"set", b"text", 1), r"column 'text' appears 2 times; keep one"),
    "zeros": (lambda table: bytes(5000), r"table.tsv: is empty; give a header line"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_file_that_is_no_table_is_refused(kind: str, tmp_path: Path) -> None:
    change, words = TABLES[kind]
    table = write_rows(tmp_path / "source")
    table.write_bytes(change(table.read_bytes()))
    assert_refused(run_prepare("table", table, "--out", tmp_path / "out"), words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.tsv", "No such file"),
        ("", "Is a directory"),
        ("x" * 300, "File name too long"),
        ("loop", "Too many levels"),
    ],
)
def test_a_table_that_cannot_be_opened_is_refused(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert_refused(run_prepare("table", tmp_path / name, "--out", tmp_path / "out"), re.escape(f"({words}"))


@pytest.mark.parametrize("change", [lambda table: b"\xef\xbb\xbf" + table, lambda table: table.replace(b"\n", b"\r\n")])
def test_a_byte_order_mark_and_line_ends_of_windows_change_nothing(change, tmp_path: Path) -> None:
    table = write_rows(tmp_path / "source")
    expected = assert_prepared(run_prepare("table", table, "--out", tmp_path / "a"), tmp_path / "a", UTTERANCES, {})
    table.write_bytes(change(table.read_bytes()))
    corpus = assert_prepared(run_prepare("table", table, "--out", tmp_path / "b"), tmp_path / "b", UTTERANCES, {})
    assert corpus.fingerprint == expected.fingerprint


def test_a_set_without_a_usable_utterance_is_refused_with_the_reason(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "source")
    (tmp_path / "source" / "dev-0.wav").write_bytes(b"no audio")
    words = r"none of the 1 utterances of set 'dev' can be used \(1 left out: audio cannot be read .*--set dev=none"
    assert_refused(run_prepare("table", table, "--out", tmp_path / "out"), words)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
