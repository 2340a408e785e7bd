"""A disk that is quickly full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mount_small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a real tmpfs of `size` (64k, 4m) at `folder`, a new one; skip the test with a reason where that fails."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(
            f"NOT TESTED: a full disk, because no tmpfs can be mounted here ({mounted.stderr.strip()}); be root"
        )
    try:
        yield folder
    finally:
        # Lazily, because an idle worker may still have its log open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
