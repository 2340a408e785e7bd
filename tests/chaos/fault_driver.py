"""The process of a study that faults strike: its clock can be set, its disk can be slow, and it can believe to be on
another machine."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

# Environment variables: files with the seconds to add to the clock, and those that a write to the disk takes; a file
# that is there while an event is half written; a host's name.
CLOCK, DISK, HALF, HOST = "CHAOS_CLOCK", "CHAOS_DISK", "CHAOS_HALF", "CHAOS_HOST"
MARGIN = 0.25  # of a budget, to end what runs: studies of real sizes have 10 s for it, as a busy machine may need
STUB = ("stub_training:train", "stub_training:prepare")


def set_clock_by(file: Path) -> None:
    """Add the seconds in the file, which may change, to every reading of the wall clock in this process."""
    read_clock = time.time
    time.time = lambda: read_clock() + _read_seconds(file)


def slow_disk_by(file: Path, half: Path) -> None:
    """Have every fsync of this process wait for the seconds in the file, which may change, and an event that is written
    for as long after its first half. The file `half` is there meanwhile."""
    fsync, pwrite = os.fsync, os.pwrite

    def wait_and_fsync(descriptor: int) -> None:
        time.sleep(_read_seconds(file))
        fsync(descriptor)

    def pwrite_half(descriptor: int, content: bytes, offset: int) -> int:
        seconds = _read_seconds(file)
        # A lease is written as a whole: one block of a disk.
        if seconds <= 0 or not os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
            return pwrite(descriptor, content, offset)
        written = pwrite(descriptor, content[: len(content) // 2 + 1], offset)
        half.touch()
        time.sleep(seconds)
        half.unlink()
        return written

    os.fsync, os.pwrite = wait_and_fsync, pwrite_half  # type: ignore[assignment]


def _read_seconds(file: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        return float(file.read_text())
    return 0.0


def main(study_file: str, *work: str) -> None:
    """`decred-study run`; `work` are the study's functions, the stand-in's where none are given."""
    try:
        # Behind the change of the clock: what is imported may keep the function.
        from study import runner
        from study.cli import main as cli
        from study.evidence import reserve
        from study.ledger import fold_cache
        from study.ledger.lease_file import Machine

        given = runner.Work(*(work or STUB))
        runner.Work = lambda: given  # type: ignore[assignment,misc]
        assert reserve.MOST_MARGIN < MARGIN, "the name has another meaning by now"
        reserve.MOST_MARGIN = MARGIN
        fold_cache.LEAST_BYTES = 1  # so that short studies have the kept fold of long ones
        if host := os.environ.get(HOST):
            Machine.detect = classmethod(lambda cls: cls(host, "another-boot"))  # type: ignore[assignment,method-assign]
    except KeyboardInterrupt:  # the command imports all this within itself, where Ctrl-C ends it without a word
        sys.exit(130)
    sys.argv = ["decred-study", "run", study_file]
    cli.main()


if __name__ == "__main__":
    if CLOCK in os.environ:
        set_clock_by(Path(os.environ[CLOCK]))
    if DISK in os.environ:
        slow_disk_by(Path(os.environ[DISK]), Path(os.environ[HALF]))
    main(*sys.argv[1:])
