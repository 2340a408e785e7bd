"""Connecting to Ray in a process of its own, and what is left of it afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TERMINATED_AFTERWARDS = """
import os, signal
from cluster.connect import connect
got = []
with connect(cpus=1):
    signal.signal(signal.SIGTERM, lambda *_: got.append("SIGTERM"))
os.kill(os.getpid(), signal.SIGTERM)
print(*got)
"""


@pytest.mark.slow
def test_the_handler_of_sigterm_outlives_the_connection() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED_AFTERWARDS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "SIGTERM\n"), done.stderr
