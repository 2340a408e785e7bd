"""A file of lines has whole lines only, also after its writer died or the disk was full."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger import event_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    event_file.create(path, b"0\n")
    return path


def test_an_existing_file_is_not_created_again(path: Path) -> None:
    with pytest.raises(FileExistsError):
        event_file.create(path, b"1\n")
    assert path.read_bytes() == b"0\n"


@pytest.mark.parametrize("torn", [b"{", b"\0" * 9000, b"{" * 5000])
def test_a_torn_last_line_is_left_out_and_cut_off_at_the_next_append(path: Path, torn: bytes) -> None:
    event_file.append(path, b"y" * 10_000 + b"\n")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert b"".join(event_file.read_lines(path)) == whole
    assert event_file.whole_bytes(path) == len(whole)
    event_file.append(path, b"2\n")
    assert path.read_bytes() == whole + b"2\n"


def test_lines_are_read_from_an_offset_to_an_end_up_to_a_number(path: Path) -> None:
    for number in (1, 2, 3):
        event_file.append(path, b"%d\n" % number)
    assert event_file.read_lines(path, 2) == [b"1\n", b"2\n", b"3\n"]
    assert event_file.read_lines(path, 2, most=1) == [b"1\n"]
    assert event_file.read_lines(path, 2, end=6) == [b"1\n", b"2\n"]
    assert event_file.read_lines(path, 2, end=5) == [b"1\n"], "an end within a line leaves the line out"
    assert event_file.read_lines(path, 0, end=6, most=2) == [b"0\n", b"1\n"]


class _GrowingFile(io.BytesIO):
    """A file whose second line is torn when it is read; the rest of it follows as the next line."""

    def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
        yield from (b"0\n", b"1", b"2\n")


def test_a_line_whose_rest_is_written_during_a_read_is_left_for_the_next_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: _GrowingFile())
    assert event_file.read_lines(path) == [b"0\n"]


def _fill(path: Path) -> tuple[int, OSError]:
    """The number of lines that fit on the disk, and the error of the next one."""
    for number in range(1000):
        try:
            event_file.append(path, b"y" * 1500 + b"\n")
        except OSError as error:
            return number, error
    raise AssertionError("the disk is not small")


def test_a_full_disk_raises_its_own_error_and_leaves_no_partial_line(small_disk: Path) -> None:
    path = small_disk / "lines.jsonl"
    event_file.create(path, b"0\n")
    written, error = _fill(path)
    assert error.errno == errno.ENOSPC
    assert written > 10
    assert len(event_file.read_lines(path)) == written + 1
    assert path.read_bytes().endswith(b"y\n")
    event_file.append(path, b"1\n")  # a short line fits after the last whole one
    assert event_file.read_lines(path)[-1] == b"1\n"


def test_a_file_whose_first_line_cannot_be_written_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _fail)
        with pytest.raises(OSError, match="Input/output error"):
            event_file.create(tmp_path / "new", b"0\n")
    assert not (tmp_path / "new").exists()


def test_a_line_that_did_not_reach_the_disk_is_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _fail)
        with pytest.raises(OSError, match="Input/output error"):
            event_file.append(path, b"1\n")
    event_file.append(path, b"2\n")
    assert event_file.read_lines(path) == [b"0\n", b"2\n"]


def _fail(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")
