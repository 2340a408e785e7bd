"""A study's own process that notes, on another disk, each event whose append has returned: those must never be lost."""

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
    """From now on in this process, write each event into `file` as soon as `EventLog.append` has returned."""
    append = EventLog.append
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append_and_note(log: EventLog, event: AnyEvent) -> None:
        append(log, event)
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
