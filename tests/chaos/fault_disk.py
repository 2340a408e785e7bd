"""Faults of the disk that holds a study: it is full, or slow, and a driver dies while it writes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from chaos.fault_run import DISK_FILE, HALF_FILE, StudyUnderFaults

from study.ledger.event_log import EventLog

FULL_SECONDS = 4.0
SLOW_SECONDS = 4.0  # for which the disk is slow
WRITE_SECONDS = (0.2, 0.5, 1.5)  # that a write to a slow one takes


def kill_driver(study: StudyUnderFaults) -> bool:
    """kill -9 of it. What it had started is killed with it, as where a machine is lost, or is left to end by itself."""
    study.was_killed = True
    study.driver.kill()
    if study.chance.random() < 0.5:
        study.driver.close()
    return True


def fill_disk(study: StudyUnderFaults) -> bool:
    study.disk.fill()
    study.wait(FULL_SECONDS)
    study.disk.free()
    return True


def tear_line(study: StudyUnderFaults) -> bool:
    """The driver is killed while it appends: a part of a line is left."""
    kill_driver(study)
    if files := EventLog(study.folder).files():
        line = files[-1].read_bytes().splitlines()[-1]
        with files[-1].open("ab") as file:
            file.write(line[: study.chance.randrange(1, len(line))])
    return True


def slow_disk(study: StudyUnderFaults) -> bool:
    """Each write takes long for a while."""
    with _hold_up(study):
        study.wait(SLOW_SECONDS)
    return True


def kill_in_write(study: StudyUnderFaults) -> bool:
    """The driver is killed in the middle of a write: when half of an event is written, or soon after."""
    HALF_FILE.unlink(missing_ok=True)
    with _hold_up(study):
        study.wait(4 * SLOW_SECONDS, until=HALF_FILE.exists)
        is_half_written = HALF_FILE.exists()
        study.wait(study.chance.choice((0.0, 0.3, 1.0)))
        if study.driver.process.poll() is None:
            kill_driver(study)
    return is_half_written


@contextlib.contextmanager
def _hold_up(study: StudyUnderFaults) -> Iterator[None]:
    """The disk is slow while the block runs; the last write may take longer."""
    seconds, start = study.chance.choice(WRITE_SECONDS), time.time()
    DISK_FILE.write_text(str(seconds))
    yield
    DISK_FILE.write_text("0")
    study.invariants.held_up.append((start, time.time() + seconds))
