"""One event file a session, read in order; torn lines and lines of replaced drivers do not count."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from study.ledger.event_lines import from_line, to_line
from study.ledger.event_log import EventLog, Position
from study.ledger.events import AnyEvent, SessionStarted, TrialEpoch, TrialPaused
from study.ledger.trials import Trials

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parents[2] / "golden"


def start_session(folder: Path) -> EventLog:
    log = EventLog(folder)
    log.start_session(SessionStarted())
    return log


def append_epochs(log: EventLog, *epochs: int, number: int = 0) -> None:
    for epoch in epochs:
        log.append(TrialEpoch(number=number, epoch=epoch, metrics={"dev/wer": float(epoch)}))


def read_epochs(log: EventLog) -> list[int]:
    return [event.epoch for event in log.read() if isinstance(event, TrialEpoch)]


def test_each_session_has_a_file_of_its_own_and_they_are_read_in_order(tmp_path: Path) -> None:
    append_epochs(start_session(tmp_path), 1, 2)
    append_epochs(start_session(tmp_path), 3)
    log = EventLog(tmp_path)
    assert [path.name for path in log.files()] == ["000001.jsonl", "000002.jsonl"]
    first, second = ["session_started", "trial_epoch", "trial_epoch"], ["session_started", "trial_epoch"]
    assert [event.kind for event in log.read()] == [*first, *second]
    assert read_epochs(log) == [1, 2, 3]


def test_late_lines_of_a_replaced_driver_change_nothing(tmp_path: Path) -> None:
    """It was frozen while another took the study over; the lines that it writes later are behind the seal."""
    frozen = start_session(tmp_path)
    append_epochs(frozen, 1)
    successor = start_session(tmp_path)
    append_epochs(successor, 2)
    before = EventLog(tmp_path).read()
    append_epochs(frozen, 77, 78)
    assert EventLog(tmp_path).read() == before
    append_epochs(successor, 3)
    third = start_session(tmp_path)
    append_epochs(frozen, 79)
    append_epochs(successor, 80)
    append_epochs(third, 4)
    assert read_epochs(EventLog(tmp_path)) == [1, 2, 3, 4]


def test_a_session_whose_header_was_written_after_its_file_was_sealed_does_not_count(tmp_path: Path) -> None:
    append_epochs(start_session(tmp_path), 1)
    late = tmp_path / "events" / "000002.jsonl"
    late.touch()  # it was frozen before it wrote its header
    third = start_session(tmp_path)
    assert third.files()[-1].name == "000003.jsonl"
    append_epochs(third, 3)
    late.write_bytes(to_line(SessionStarted(sealed={"000001.jsonl": 0})))
    assert read_epochs(EventLog(tmp_path)) == [1, 3]


def test_two_drivers_that_start_at_the_same_time_get_different_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EventLog(tmp_path).start_session(SessionStarted())
    slow = EventLog(tmp_path)
    files_before = slow.files()
    quick = start_session(tmp_path)
    listings = iter([files_before])  # what the slow driver listed before the quick one made its file
    monkeypatch.setattr(slow, "files", lambda: next(listings, EventLog(tmp_path).files()))
    slow.start_session(SessionStarted())
    assert [path.name for path in quick.files()] == ["000001.jsonl", "000002.jsonl", "000003.jsonl"]


def test_a_torn_last_line_is_left_out_and_cut_off_at_the_next_event(tmp_path: Path) -> None:
    log = start_session(tmp_path)
    append_epochs(log, 1)
    path = log.files()[-1]
    whole = path.read_bytes()
    for torn in (b'{"time": 1, "ki', b"\0" * 9000, b"{" * 5000):
        path.write_bytes(whole + torn)
        assert read_epochs(log) == [1]
    append_epochs(log, 2)
    assert read_epochs(log) == [1, 2]
    assert path.read_bytes().startswith(whole)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 600))
def test_any_cut_at_a_byte_gives_the_fold_of_the_whole_lines(cut: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        append_epochs(start_session(folder), 1, 2)
        log = start_session(folder)
        append_epochs(log, 3, 1, 2)
        last = log.files()[-1]
        content = last.read_bytes()
        last.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        expected = [*EventLog(folder).read()[:3], *_events_in(content)[:whole]]
        assert EventLog(folder).read() == expected
        assert dict(Trials(EventLog(folder).read())) == dict(Trials(expected))


def _events_in(content: bytes) -> list[AnyEvent]:
    return [from_line(line) for line in content.splitlines()]


def test_an_earlier_file_that_was_cut_is_named_with_both_lengths(tmp_path: Path) -> None:
    append_epochs(start_session(tmp_path), 1, 2)
    start_session(tmp_path)
    first = tmp_path / "events" / "000001.jsonl"
    length = first.stat().st_size
    first.write_bytes(first.read_bytes()[:-5])
    with pytest.raises(
        UserError, match=rf"000001.jsonl: has \d+ whole bytes, but the session after it counted {length}"
    ):
        EventLog(tmp_path).read()


@pytest.mark.parametrize("damaged", [b'{"ki', b"3", b'{"number": 3}', b"\xff\xfe", b"\0\0", b""])
def test_a_damaged_line_is_named_by_its_number(tmp_path: Path, damaged: bytes) -> None:
    log = start_session(tmp_path)
    append_epochs(log, 1)
    path = log.files()[-1]
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damaged + b"\n" + second)
    message = r"000001.jsonl: line 2 is damaged; restore the file or remove the line"
    with pytest.raises(UserError, match=message):
        log.read()
    with pytest.raises(UserError, match=message):
        log.read_since(Position(0, len(first)))


def test_a_kind_of_a_newer_version_is_refused_with_its_name_and_line(tmp_path: Path) -> None:
    log = start_session(tmp_path)
    with log.files()[-1].open("a") as file:
        file.write('{"time": 1.0, "kind": "trial_sold"}\n')
    with pytest.raises(
        UserError, match=r"line 2 is an event of kind 'trial_sold', which this version does not know; use the newer"
    ):
        log.read()


def test_new_events_are_read_in_parts_across_files(tmp_path: Path) -> None:
    position, kinds = Position(), list[str]()
    log = start_session(tmp_path)
    for number in range(3):
        append_epochs(log, 1, 2, number=number)
        if number == 1:
            log = start_session(tmp_path)
        while True:
            events, position = EventLog(tmp_path).read_since(position, most=2)
            kinds += [event.kind for event in events]
            if not events:
                break
    assert kinds == [event.kind for event in EventLog(tmp_path).read()]
    assert EventLog(tmp_path).read_since(position) == ([], position)


def test_a_reader_beside_a_writer_reads_whole_events_only(tmp_path: Path) -> None:
    """The last line is often torn, because each event is longer than a page or a pipe's buffer."""
    start_session(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from study.ledger.event_log import EventLog; from study.ledger.events import SessionStarted, TrialPaused\n"
        "log = EventLog(Path(sys.argv[1])); log.start_session(SessionStarted())\n"
        "for number in range(150): log.append(TrialPaused(number=number, epoch=1, reason='y' * 20_000))"
    )
    numbers, position = list[int](), Position()
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) as writer:
        while writer.poll() is None:
            events, position = EventLog(tmp_path).read_since(position)
            numbers += [event.number for event in events if isinstance(event, TrialPaused)]
    events, position = EventLog(tmp_path).read_since(position)
    numbers += [event.number for event in events if isinstance(event, TrialPaused)]
    assert writer.returncode == 0
    assert numbers == list(range(150))


@pytest.fixture
def format_1(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "study_format_1", tmp_path / "old")
    return tmp_path / "old"


def test_events_of_format_1_are_read_first_and_never_written_to(format_1: Path) -> None:
    before = (format_1 / "events.jsonl").read_bytes()
    old = EventLog(format_1).read()
    log = start_session(format_1)
    append_epochs(log, 9, number=11)
    assert log.read()[: len(old)] == old
    assert [event.kind for event in log.read()[len(old) :]] == ["session_started", "trial_epoch"]
    assert (format_1 / "events.jsonl").read_bytes() == before
