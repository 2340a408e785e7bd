"""Faults of the disk that holds a study: it is full, or slow, and a driver dies while it writes."""

from __future__ import annotations

from chaos.fault_run import DISK_FILE, HALF_FILE, StudyUnderFaults

from study.ledger.event_log import EventLog

FULL_SECONDS = 4.0
SLOW_SECONDS = 4.0  # for which the disk is slow
WRITE_SECONDS = (0.2, 0.5, 1.5)  # that a write to a slow one takes


def kill_driver(study: StudyUnderFaults) -> None:
    study.was_killed = True
    study.driver.kill()
    study.driver.close()


def fill_disk(study: StudyUnderFaults) -> None:
    study.disk.fill()
    study.wait(FULL_SECONDS)
    study.disk.free()


def tear_line(study: StudyUnderFaults) -> None:
    """The driver is killed while it appends: a part of a line is left."""
    kill_driver(study)
    if files := EventLog(study.folder).files():
        line = files[-1].read_bytes().splitlines()[-1]
        with files[-1].open("ab") as file:
            file.write(line[: study.chance.randrange(1, len(line))])


def slow_disk(study: StudyUnderFaults) -> None:
    """Each write takes long for a while."""
    DISK_FILE.write_text(str(study.chance.choice(WRITE_SECONDS)))
    study.wait(SLOW_SECONDS)
    DISK_FILE.write_text("0")
    study.invariants.held_up += SLOW_SECONDS


def kill_in_write(study: StudyUnderFaults) -> None:
    """The driver is killed in the middle of a write: when half of an event is written, or soon after."""
    HALF_FILE.unlink(missing_ok=True)
    DISK_FILE.write_text(str(study.chance.choice(WRITE_SECONDS)))
    study.wait(4 * SLOW_SECONDS, until=HALF_FILE.exists)
    study.wait(study.chance.choice((0.0, 0.3, 1.0)))
    if study.driver.process.poll() is None:
        kill_driver(study)
    DISK_FILE.write_text("0")
    study.invariants.held_up += SLOW_SECONDS
