"""Runs on the cluster while a study is followed: prints its table whenever it changes, until no process runs the study.

`python -m study.remote.watching FOLDER WIDTH`; each table, and whether a process runs the study, is a line of its own,
which `study.remote.attaching` reads.
"""

from __future__ import annotations

import base64
import io
import sys
import time
import zlib
from pathlib import Path

from rich.console import Console

from study.display.status import print_status
from study.ledger.lease import find_living_holder
from study.ledger.ledger import Ledger

FRAME = "decred-study shows "
WAITS = "decred-study waits for the study's process"
RUNS = "decred-study sees the study's process"
ENDS = "decred-study has seen the study's process end"
SECONDS = 2.0
WAITS_SECONDS = 10.0  # from one WAITS to the next; at each, who follows the study looks whether its job has ended
# Who follows a study starts the next view then. One whose follower was killed is stopped by nobody.
LIFE_SECONDS = 20 * 60.0


def watch(folder: Path, width: int, seconds: float = LIFE_SECONDS) -> None:
    """Print a frame for each change; WAITS while no process has run the study, RUNS when one does, ENDS after it.

    It returns after ENDS, or after `seconds`.
    """
    shown, has_run = "", False
    deadline, waits_at = time.monotonic() + seconds, 0.0
    while True:
        lives = _is_run(folder)
        frame = draw(folder, width)
        if frame and frame != shown:
            print(FRAME + base64.b64encode(zlib.compress(frame.encode())).decode(), flush=True)
            shown = frame
        if lives and not has_run:
            print(RUNS, flush=True)
            has_run = True
        if has_run and not lives:
            print(ENDS, flush=True)
            return
        if not has_run and time.monotonic() >= waits_at:
            print(WAITS, flush=True)
            waits_at = time.monotonic() + WAITS_SECONDS
        if time.monotonic() >= deadline:
            return
        time.sleep(SECONDS)


def draw(folder: Path, width: int) -> str:
    """What `status` prints, with colours, for a terminal so wide; nothing while there is no ledger."""
    if not (folder / "study.yaml").is_file():
        return ""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system="standard")
    print_status(Ledger.open(folder), folder, console)
    return stream.getvalue()


def read_frame(line: str) -> str | None:
    """The table in a line that `watch` has printed, if it is one."""
    if not line.startswith(FRAME):
        return None
    return zlib.decompress(base64.b64decode(line.removeprefix(FRAME))).decode()


def _is_run(folder: Path) -> bool:
    """Whether a process runs the study; one that only records a command does not."""
    holder = find_living_holder(folder)
    return holder is not None and not holder.brief


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
