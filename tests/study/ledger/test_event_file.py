"""The file of events stays whole, whatever happens to who writes it and to the disk."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from study.ledger import event_file

ROOT = Path(__file__).parents[3]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    event_file.create(path)
    return path


def numbers(path: Path) -> list[int]:
    return [event["number"] for event in event_file.read(path)]


def put(path: Path, number: int, **more: Any) -> None:
    event_file.append(path, {"kind": "x", "number": number, **more})


@pytest.mark.parametrize("torn", [b'{"kind": "x", "num', b"\0" * 9000, b"{" * 5000, b'{"kind": "x", "number": 9}'])
def test_a_torn_last_line_is_left_out_and_cut_off_at_the_next_event(events: Path, torn: bytes) -> None:
    put(events, 0)
    put(events, 1, long="y" * 10_000)
    whole = events.read_bytes()
    events.write_bytes(whole + torn)
    assert numbers(events) == [0, 1]
    assert event_file.read_since(events, 0)[1] == len(whole)
    put(events, 2)
    assert numbers(events) == [0, 1, 2]
    assert events.read_bytes().startswith(whole)


def test_a_first_line_that_was_torn_leaves_no_event(events: Path) -> None:
    events.write_bytes(b'{"time"')
    assert event_file.read(events) == []
    put(events, 0)
    assert numbers(events) == [0]


@pytest.mark.parametrize("damaged", [b'{"ki', b"3", b'{"number": 3}', b"\xff\xfe", b"\0\0", b""])
def test_a_damaged_line_in_the_middle_is_named_by_its_number(events: Path, damaged: bytes) -> None:
    events.write_bytes(b'{"kind": "x"}\n' + damaged + b'\n{"kind": "y"}\n')
    said = r"events.jsonl: line 2 is damaged; restore the file or remove the line"
    with pytest.raises(UserError, match=said):
        event_file.read(events)
    for offset in (0, len(b'{"kind": "x"}\n')):
        with pytest.raises(UserError, match=said):
            event_file.read_since(events, offset)


def test_what_came_since_is_read_in_parts(events: Path) -> None:
    offset = 0
    assert event_file.read_since(events, offset) == ([], 0)
    for number in range(3):
        put(events, number)
        new, offset = event_file.read_since(events, offset)
        assert [event["number"] for event in new] == [number]
    assert event_file.read_since(events, offset) == ([], events.stat().st_size)


def test_who_reads_while_another_appends_meets_whole_events_only(events: Path) -> None:
    """A torn line lies there at first, and each event is longer than what a pipe or page takes at once."""
    events.write_bytes(b'{"kind": "to')
    writes = (
        "import sys; from pathlib import Path; from study.ledger import event_file\n"
        "for number in range(150):\n"
        "    event_file.append(Path(sys.argv[1]), {'kind': 'x', 'number': number, 'long': 'y' * 20_000})"
    )
    seen, offset = list[int](), 0
    with subprocess.Popen([sys.executable, "-c", writes, str(events)], cwd=ROOT) as writer:
        while writer.poll() is None:
            new, offset = event_file.read_since(events, offset)
            seen += [event["number"] for event in new]
            assert numbers(events)[: len(seen)] == seen
    seen += [event["number"] for event in event_file.read_since(events, offset)[0]]
    assert writer.returncode == 0
    assert seen == list(range(150))


class _Growing(io.BytesIO):
    """A file whose last line is torn when it is read, and whole a moment later."""

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
        yield from (b'{"kind": "x"}\n', b'{"kind"', b': "y"}\n')


def test_a_line_whose_rest_comes_while_it_is_read_is_left_for_the_next_time(
    events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: _Growing())
    assert event_file.read_since(events, 0) == ([{"kind": "x"}], len(b'{"kind": "x"}\n'))


def test_threads_that_append_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    from model.recipe.files import named_recipe
    from study.config.study_file import StudyFile
    from study.ledger.ledger import Ledger

    ledger = Ledger.create_or_open(
        tmp_path / "s", StudyFile(name="s", corpus="c", trials=0), named_recipe("tiny", "c"), {}
    )

    def write(start: int) -> None:
        for number in range(start, start + 20):
            ledger.append("x", number=number)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event["number"] for event in ledger.events()) == list(range(60))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB; where none can be mounted, a limit on the size of a file: it fails in the same place."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_001, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def _filled(events: Path) -> tuple[int, OSError]:
    """How many events there was room for, and what was said of the next one."""
    for number in range(1000):
        try:
            put(events, number, long="y" * 1500)
        except OSError as error:
            return number, error
    raise AssertionError("the disk is not small")


def test_a_full_disk_is_told_as_it_is_and_leaves_no_half_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        events = disk / "events.jsonl"
        event_file.create(events)
        written, error = _filled(events)
        assert error.errno in (errno.ENOSPC, errno.EFBIG)
        assert written > 10
        assert numbers(events) == list(range(written))
        assert events.read_bytes().endswith(b"}\n")
        put(events, written)  # a short one fits behind the last whole line
        assert numbers(events) == list(range(written + 1))


def test_an_event_that_did_not_reach_the_disk_is_not_kept(events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(events, 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _broken)
        with pytest.raises(OSError, match="Input/output error"):
            put(events, 1)
    put(events, 2)
    assert numbers(events) == [0, 2]


def _broken(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_number_that_is_not_finite_is_null(events: Path) -> None:
    put(events, 0, loss=float("nan"), more=[float("inf"), 1.0], deep={"a": (2.0, float("-inf"))})
    assert json.loads(events.read_bytes()) == {
        "kind": "x",
        "number": 0,
        "loss": None,
        "more": [None, 1.0],
        "deep": {"a": [2.0, None]},
    }
