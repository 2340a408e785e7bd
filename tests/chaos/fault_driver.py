"""The process of a study that faults strike: its clock can be set, and it can believe to be on another machine."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

CLOCK, HOST = "CHAOS_CLOCK", "CHAOS_HOST"  # environment variables: a file with seconds to add; a host's name
STUB = ("stub_training:train", "stub_training:prepare")


def set_clock_by(file: Path) -> None:
    """Add the seconds in the file, which may change, to every reading of the wall clock in this process."""
    read_clock = time.time

    def read_moved_clock() -> float:
        moved = 0.0
        with contextlib.suppress(OSError, ValueError):
            moved = float(file.read_text())
        return read_clock() + moved

    time.time = read_moved_clock


def main(study_file: str, *work: str) -> None:
    """`decred-study run`; `work` are the study's functions, the stand-in's where none are given."""
    try:
        # Behind the change of the clock: what is imported may keep the function.
        from study import runner
        from study.cli import main as cli
        from study.ledger.lease_file import Machine

        given = runner.Work(*(work or STUB))
        runner.Work = lambda: given  # type: ignore[assignment,misc]
        if host := os.environ.get(HOST):
            Machine.detect = classmethod(lambda cls: cls(host, "another-boot"))  # type: ignore[assignment,method-assign]
    except KeyboardInterrupt:  # the command imports all this within itself, where Ctrl-C ends it without a word
        sys.exit(130)
    sys.argv = ["decred-study", "run", study_file]
    cli.main()


if __name__ == "__main__":
    if CLOCK in os.environ:
        set_clock_by(Path(os.environ[CLOCK]))
    main(*sys.argv[1:])
