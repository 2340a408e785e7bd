"""The power is cut between any two changes of the disk: the ledger that is left can be read, and nothing is lost."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_events import end_trial, report_epoch
from posix_disk import PosixDisk

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger import event_file
from study.ledger.event_lines import from_line
from study.ledger.event_log import EventLog
from study.ledger.events import TrialState
from study.ledger.lease import hold_lease
from study.ledger.lease_file import LEASE
from study.ledger.ledger import Ledger

TINY = named_recipe("tiny", "/speech")
STUDY = StudyFile.model_validate(
    {"name": "probe", "corpus": "/speech", "trials": 3, "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
)
NO_HEARTBEATS = 3600.0  # seconds to the first: they would be changes at any moment
CRASHES = 2  # states that are looked at after each cut, beside the one in which nothing was written back


@pytest.fixture(autouse=True)
def _quick_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model alone decides what is kept; the machine's own disk would take minutes for hundreds of sessions."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PosixDisk]:
    (tmp_path / "disk").mkdir()
    disk = PosixDisk(tmp_path / "disk")
    yield disk
    disk.close()


def run_session(folder: Path, acknowledged: list[bytes], with_lease: bool = True) -> None:
    """A driver's session: lease, files, header, a trial to its end; each event is noted once it is acknowledged."""
    append = event_file.append
    lease = hold_lease(folder, interval=NO_HEARTBEATS) if with_lease else contextlib.nullcontext()

    def append_and_note(path: Path, line: bytes) -> None:
        append(path, line)
        acknowledged.append(line)

    with pytest.MonkeyPatch.context() as patch, lease:
        patch.setattr(event_file, "append", append_and_note)
        ledger = Ledger.create_or_open(folder, STUDY, TINY, {"id": "abc"})
        number = len(ledger.trials)
        ledger.start_session(1)
        ledger.start_trial(number, TINY, {"ctc_weight": 0.3})
        for epoch in (1, 2):
            report_epoch(ledger, number, epoch, {"dev/wer": 50.0 / epoch})
        end_trial(ledger, number, TrialState.COMPLETE, metrics={"dev/wer": 25.0})


def assert_nothing_lost(folder: Path, acknowledged: list[bytes]) -> None:
    """All that was acknowledged is read, in its order, and a driver continues on what is left."""
    lines = [line for file in EventLog(folder).read_lines().values() for line in file]
    assert [line for line in lines if line in acknowledged] == acknowledged
    run_session(folder, [], with_lease=False)  # a torn lease is waited for
    assert EventLog(folder).read()[: len(lines)] == [from_line(line) for line in lines]


def hash_files(folder: Path) -> str:
    """Of all that is in the folder, but for the lease."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LEASE)
    return hashlib.sha256(
        repr([(str(path.relative_to(folder)), path.read_bytes()) for path in files]).encode()
    ).hexdigest()


def test_no_power_cut_between_two_changes_of_the_disk_loses_an_acknowledged_event(
    disk: PosixDisk, tmp_path: Path
) -> None:
    acknowledged: list[bytes] = []
    left: dict[str, tuple[Path, list[bytes]]] = {}  # by their content, because most cuts leave what others leave

    def cut() -> None:
        for state in range(CRASHES + 1):
            folder = tmp_path / f"left-{next(names)}"
            disk.restore(folder, chance if state else None)
            left[f"{hash_files(folder)} {len(acknowledged)}"] = (folder, list(acknowledged))

    names, chance = itertools.count(), random.Random(7)
    with disk.follow(cut):
        for _ in range(2):
            run_session(disk.root / "storage" / "probe", acknowledged)
    print(f"{len(left)} different states of the disk after {next(names)} cuts")
    assert len(acknowledged) == 8
    for folder, promised in left.values():
        assert_nothing_lost(folder / "storage" / "probe", promised)


def test_a_line_that_a_killed_driver_had_not_synced_is_synced_before_its_successor_counts_it(
    disk: PosixDisk, tmp_path: Path
) -> None:
    folder, acknowledged = disk.root / "storage" / "probe", list[bytes]()
    with disk.follow():
        run_session(folder, acknowledged)
        (file,) = EventLog(folder).files()
        line = file.read_bytes().splitlines(keepends=True)[-1]
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line)  # and kill -9 before its sync
        os.close(descriptor)
        ledger = Ledger.create_or_open(folder, STUDY, TINY, {"id": "abc"})
        ledger.start_session()
    disk.restore(tmp_path / "left")
    left = tmp_path / "left" / "storage" / "probe"
    assert EventLog(left).read() == EventLog(folder).read()
