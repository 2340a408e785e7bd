"""The cache of a long study's fold: it changes nothing but the time that reading takes."""

from __future__ import annotations

import errno
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from any_events import EVENTS
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from model.errors import UserError
from model.recipe.files import named_recipe
from study.cli.main import app
from study.config.study_file import StudyFile
from study.ledger import event_log, fold_cache
from study.ledger.event_lines import from_line, to_line
from study.ledger.event_log import EventLog
from study.ledger.events import (
    AnyEvent,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialStarted,
    TrialState,
)
from study.ledger.fold_cache import CACHE, read_fold
from study.ledger.fold_state import pack, unpack
from study.ledger.ledger import Ledger
from study.ledger.trials import Trials

HEADER = to_line(SessionStarted(time=1.0))


def describe(trials: Trials) -> dict[str, Any]:
    """All that a fold knows; reports that wait are added first, as whoever looks at a trial has them."""
    content = {"records": dict(trials), "running": trials.running, **vars(trials)}
    return content | {"spent": vars(trials.spent)}


def describe_whole(folder: Path) -> dict[str, Any]:
    return describe(Trials(EventLog(folder).read()))


def write_session(folder: Path, number: int, lines: list[bytes]) -> None:
    (folder / "events").mkdir(exist_ok=True)
    (folder / "events" / f"{number:06d}.jsonl").write_bytes(b"".join(lines))


@pytest.fixture(autouse=True)
def every_fold_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_cache, "LEAST_BYTES", 1)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that were read from event files, but for their headers."""
    lines: list[bytes] = []

    def parse(line: bytes) -> AnyEvent:
        event = from_line(line)
        if not isinstance(event, SessionStarted):
            lines.append(line)
        return event

    monkeypatch.setattr(event_log, "from_line", parse)
    return lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study's folder, with a session of one trial of three epochs and a cache of them."""
    epochs = [TrialEpoch(time=3.0 + at, number=0, epoch=at, metrics={"dev/wer": 50.0 - at}) for at in (1, 2, 3)]
    write_session(tmp_path, 1, [HEADER, *map(to_line, [TrialStarted(time=2.0, number=0), *epochs])])
    read_fold(EventLog(tmp_path))
    assert (tmp_path / CACHE).is_file()
    return tmp_path


def add(folder: Path, event: AnyEvent) -> None:
    with (folder / "events" / "000001.jsonl").open("ab") as file:
        file.write(to_line(event))


@given(st.lists(EVENTS, max_size=30))
def test_what_a_driver_has_folded_comes_back_as_reading_its_event_files_gives_it(events: list[AnyEvent]) -> None:
    again = unpack(pack(Trials(events)))
    assert describe(again) == describe(Trials(from_line(to_line(event)) for event in events))


@given(events=st.lists(EVENTS, max_size=30), cut=st.integers(0, 30))
def test_a_fold_that_came_back_goes_on_as_the_one_that_was_packed(events: list[AnyEvent], cut: int) -> None:
    read = [from_line(to_line(event)) for event in events]
    again = unpack(pack(Trials(read[:cut])))
    for event in read[cut:]:
        again.apply(event)
    assert describe(again) == describe(Trials(read))


@given(
    events=st.lists(EVENTS, max_size=20),
    later=st.lists(EVENTS, max_size=6),
    cuts=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_reading_with_the_cache_of_any_earlier_moment_gives_what_reading_whole_does(
    events: list[AnyEvent], later: list[AnyEvent], cuts: tuple[int, int]
) -> None:
    lines = [HEADER, *map(to_line, events)]
    cached, sealed = (lines[: 1 + cut] for cut in cuts)  # the next session may count less than was read
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_cache, "LEAST_BYTES", 1)
        folder = Path(name)
        write_session(folder, 1, cached)
        assert describe(read_fold(EventLog(folder)).trials) == describe_whole(folder)
        write_session(folder, 1, lines)
        assert describe(read_fold(EventLog(folder)).trials) == describe_whole(folder)
        header = SessionStarted(time=2.0, sealed={"000001.jsonl": len(b"".join(sealed))})
        write_session(folder, 2, [to_line(header), *map(to_line, later)])
        for _ in range(2):  # with the old cache, then with that of both files
            assert describe(read_fold(EventLog(folder)).trials) == describe_whole(folder)


def test_only_what_was_written_since_is_read(folder: Path, parsed: list[bytes]) -> None:
    event = TrialEnded(time=9.0, number=0, state=TrialState.COMPLETE)
    add(folder, event)
    trials = read_fold(EventLog(folder)).trials
    assert parsed == [to_line(event)]
    assert (trials[0].state, trials[0].curve("dev/wer")) == (TrialState.COMPLETE, {1: 49.0, 2: 48.0, 3: 47.0})


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def change_a_figure(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [cut_off, change_a_figure, lambda _: b"", lambda _: b"\xff\n{}", lambda _: b"[1]\n"])
def test_a_damaged_cache_is_ignored_and_replaced(
    damage: Callable[[bytes], bytes], folder: Path, parsed: list[bytes]
) -> None:
    whole = (folder / CACHE).read_bytes()
    (folder / CACHE).write_bytes(damage(whole))
    assert describe(read_fold(EventLog(folder)).trials) == describe_whole(folder)
    assert len(parsed) >= 4
    assert (folder / CACHE).read_bytes() == whole


def test_a_cache_of_another_version_is_ignored(
    folder: Path, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_cache, "_fingerprint_code", lambda: "of a newer version")
    read_fold(EventLog(folder))
    assert len(parsed) == 4


def test_a_changed_line_is_read_and_a_damaged_one_is_reported_whatever_the_cache_says(folder: Path) -> None:
    path = folder / "events" / "000001.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"49.0", b"44.0"))  # as long as before
    assert read_fold(EventLog(folder)).trials[0].curve("dev/wer")[1] == 44.0
    path.write_bytes(content.replace(b'"epoch":2', b'"epoch"#2'))
    with pytest.raises(UserError, match=r"000001.jsonl: line 4 is damaged; restore the file or remove the line"):
        read_fold(EventLog(folder))


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(fold_cache, "replace_file", refuse)
    (folder / CACHE).unlink()
    assert describe(read_fold(EventLog(folder)).trials) == describe_whole(folder)
    assert not (folder / CACHE).exists()


def test_a_short_study_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    write_session(tmp_path, 1, [HEADER])
    read_fold(EventLog(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["events"]


def test_what_a_driver_keeps_at_its_end_spares_the_next_reader_all_of_it(tmp_path: Path, parsed: list[bytes]) -> None:
    ledger = open_study(tmp_path)
    ledger.start_session()
    ledger.append(TrialStarted(number=0))
    ledger.append(TrialEpoch(number=0, epoch=1, metrics={"dev/wer": math.inf, "train/loss": 2.0}))
    ledger.keep_fold()
    fold = read_fold(EventLog(ledger.folder))
    assert parsed == []
    assert describe(fold.trials) == describe_whole(ledger.folder)
    assert math.isnan(fold.trials[0].metrics["dev/wer"]), "as it is in the event file"


def test_a_driver_whose_file_holds_other_events_than_it_has_folded_keeps_nothing(tmp_path: Path) -> None:
    ledger = open_study(tmp_path)
    ledger.start_session()
    ledger.log.append(StudyInterrupted(reason="written by another process"))
    ledger.keep_fold()
    assert not (ledger.folder / CACHE).exists()


def open_study(tmp_path: Path) -> Ledger:
    content = {"name": "s", "corpus": "c", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
    return Ledger.create_or_open(tmp_path / "s", StudyFile.model_validate(content), named_recipe("tiny", "c"), {})


@pytest.mark.parametrize("words", [[], ["--json"], ["--top", "1"]])
def test_status_says_the_same_with_the_cache_and_without(words: list[str], tmp_path: Path) -> None:
    ledger = open_study(tmp_path)
    for number in range(6):
        ledger.append(TrialStarted(number=number, values={"ctc_weight": number / 10}))
        for epoch in (1, 2, 3):
            ledger.append(TrialEpoch(number=number, epoch=epoch, metrics={"dev/wer": 9.0 - epoch + number}, node="one"))
        ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"test/a/wer": math.nan}))
    ledger.append(StudyEnded(state=TrialState.COMPLETE, best=0))
    printed = [
        CliRunner().invoke(app, ["status", str(ledger.folder), *words], catch_exceptions=False).stdout for _ in range(3)
    ]
    assert (ledger.folder / CACHE).exists()
    assert printed[0] == printed[1] == printed[2]
    assert "0.5" in printed[0] or words
