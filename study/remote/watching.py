"""Runs on the cluster while a study is followed: prints its table whenever it changes, until no process runs the study.

`python -m study.remote.watching FOLDER WIDTH`; each table is a line of its own, which `study.remote.studies` reads.
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
SECONDS = 2.0
START_SECONDS = 120.0  # for a study that was submitted to have its folder and a process


def watch(folder: Path, width: int) -> None:
    """Print a frame for each change."""
    shown, deadline, lives = "", time.monotonic() + START_SECONDS, False
    while True:
        living = find_living_holder(folder) is not None
        lives = lives or living
        frame = draw(folder, width)
        if frame and frame != shown:
            print(FRAME + base64.b64encode(zlib.compress(frame.encode())).decode(), flush=True)
            shown = frame
        if not living and (lives or time.monotonic() > deadline):
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


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
