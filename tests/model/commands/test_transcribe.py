"""`transcribe`: what it prints and writes, its exit codes, and whisper's spelling of its options."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import model
from model.commands import transcribe
from model.commands.app import main
from model.commands.transcribe import format_summary, plan_files, show_progress
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.training.loop import train

TRAINED = {"training.epochs": 2, "optimiser.learning_rate": 1e-2, "decoding.length_penalty": 3.0}
TRAINED |= {"decoding.beam": 4, "decoding.ctc_weight": 0.2}  # else the best hypothesis is empty


@pytest.fixture(scope="module")
def folder(make_recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcribe") / "run"
    train(make_recipe(TRAINED), folder, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def spoken(corpus: Corpus, folder: Path) -> dict[str, str]:
    """Two recordings, and what the model recognises in them."""
    paths = [Path(cut.recording.sources[0].source) for cut in corpus.cuts("dev")]
    texts = dict(zip(map(str, paths), model.decode(model.load_run(folder), paths), strict=True))
    chosen = {path: text for path, text in texts.items() if text}
    assert len(chosen) > 1
    return dict(list(chosen.items())[:2])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `python -m model transcribe` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["python -m model", "transcribe", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_texts_are_printed_and_a_summary_goes_to_the_error_stream(
    folder: Path, spoken: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folder, *spoken) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"{path}: {text}" for path, text in spoken.items()]
    assert re.fullmatch(r"2 recordings, [\d.]+ s of audio in [\d.]+ s, RTF [\d.]+\n", printed.err)
    path, text = next(iter(spoken.items()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(path).read_bytes())))
    assert run(monkeypatch, folder, "-") == 0
    assert capsys.readouterr().out == f"{text}\n"


def test_whispers_options_write_files_named_as_the_recordings(
    folder: Path, spoken: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--output_dir", tmp_path / "new", "--output_format", "all", "--word_timestamps", "--beam_size", 4)
    assert run(monkeypatch, folder, *spoken, *options, "--max_line_width", 5, "--max_line_count", 1) == 0
    stems = {Path(path).stem: text for path, text in spoken.items()}
    endings = ("txt", "srt", "vtt", "tsv", "json")
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert written == {f"{stem}.{ending}" for stem in stems for ending in endings}
    for stem, text in stems.items():
        assert (tmp_path / "new" / f"{stem}.txt").read_text() == f"{text}\n"
        content = json.loads((tmp_path / "new" / f"{stem}.json").read_text())
        assert " ".join(word["word"] for segment in content["segments"] for word in segment["words"]) == text
        subtitles = (tmp_path / "new" / f"{stem}.srt").read_text().splitlines()[2::4]
        assert " ".join(subtitles) == text
        assert all(len(line) <= 5 or " " not in line for line in subtitles)


def test_what_cannot_be_read_is_named_the_rest_is_written_and_the_exit_code_is_1(
    folder: Path,
    spoken: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("silence.flac", np.zeros(16_000), 16_000)
    Path("text.wav").write_text("no audio")
    first, *_ = spoken
    assert run(monkeypatch, folder, "none.wav", "silence.flac", first, "text.wav", "-f", "txt") == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "error: none.wav: no such audio file; give another recording"
    assert errors[1].startswith("error: text.wav: audio cannot be read (")
    assert errors[2].startswith("2 recordings, ")
    assert errors[2].endswith("; 2 could not be read")
    assert Path("silence.txt").read_text() == ""
    assert Path(f"{Path(first).stem}.txt").read_text() == f"{spoken[first]}\n"
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == sorted(["silence.txt", f"{Path(first).stem}.txt"])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("a.wav", "b/a.flac", "-o", "out"), "error: a.wav and b/a.flac would both be written to a.txt; transcribe"),
        (("a.wav", "--max-line-count", 2), "error: at most 2 lines in a cue says nothing without their width"),
        (("a.wav",), "error: nowhere: holds no checkpoint; give the folder of a training run"),
        (("a.wav", "-f", "doc"), "error: Invalid value for '-f' / '--output-format'"),
        ((), "error: Missing argument 'AUDIO...'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    typed: tuple[object, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "nowhere", *typed) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_pieces_that_are_too_short_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folder, "a.wav", "--longest", 0.5) == 2
    assert capsys.readouterr().err.startswith("error: pieces of at most 0.5 s are too short to be recognised; allow")


def test_files_are_planned_before_anything_is_read() -> None:
    assert plan_files(["a.wav", "-"], None, None) == [[], []]
    assert plan_files(["x/a.wav", "-"], None, "srt") == [[Path("a.srt")], [Path("stdin.srt")]]
    assert plan_files(["a.b.wav"], Path("out"), None) == [[Path("out/a.b.txt")]]
    with pytest.raises(UserError, match=r"a\.wav and a\.wav would both be written to a\.txt; transcribe them one"):
        plan_files(["a.wav", "a.wav"], None, "all")


def test_the_summary_has_a_factor_only_of_audio() -> None:
    assert format_summary(1, 0, 100.0, 2.5) == "1 recording, 100.0 s of audio in 2.5 s, RTF 0.0250"
    assert format_summary(0, 2, 0.0, 0.1) == "0 recordings, 0.0 s of audio in 0.1 s; 2 could not be read"


def test_a_bar_of_seconds_is_shown_on_a_terminal(
    spoken: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transcribe.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress([*spoken, "none.wav", "-"]) as advance:
        advance(0.5)
    assert "transcribing" in capsys.readouterr().err
    monkeypatch.setattr(transcribe.sys.stderr, "isatty", lambda: False)
    with show_progress(list(spoken)) as advance:
        advance(0.5)
    assert capsys.readouterr().err == ""
