"""A study's own process that notes, on another disk, each event whose append has returned: those must never be lost.

Noted is an event only when the disk still had its power after that. While Linux shuts an ext4 down, a sync may return
without an error though the journal is given up already: of 60 cuts between bare appends of two threads 3 lost such a
line each, and of 180 with this second look none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from model.errors import UserError
from study.ledger.event_lines import to_line
from study.ledger.event_log import EventLog
from study.ledger.events import AnyEvent
from study.runner import Work, run_study

STUB = ("stub_training:train", "stub_training:prepare")


def note_acknowledged(file: Path) -> None:
    """From now on in this process, write each event into `file` once `EventLog.append` has returned before a cut."""
    append = EventLog.append
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append_and_note(log: EventLog, event: AnyEvent) -> None:
        append(log, event)
        with log.files()[-1].open("rb") as events:
            os.fsync(events.fileno())  # fails once the power is gone
        os.write(descriptor, to_line(event))

    EventLog.append = append_and_note  # type: ignore[method-assign]


def main(study_file: str, acknowledged: str, *work: str) -> int:
    """The study's exit code; `work` are its functions, the stand-in's where none are given."""
    note_acknowledged(Path(acknowledged))
    try:
        return run_study(Path(study_file), work=Work(*(work or STUB)))
    except UserError as error:
        print(f"error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
