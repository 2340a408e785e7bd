"""A disk that is soon full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A real tmpfs of `size` (64k, 4m) at `folder`, which is made; the test is skipped aloud where none can be."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip(f"NOT TESTED: a full disk, because no tmpfs can be mounted here ({asked.stderr.strip()}); be root")
    try:
        yield folder
    finally:
        # Lazily: a worker that idles may still have its log open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
