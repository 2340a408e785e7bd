"""A published checkpoint to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint that a test may break."""
    return Path(shutil.copytree(golden / "reguler_one_aux", tmp_path / "checkpoint"))
