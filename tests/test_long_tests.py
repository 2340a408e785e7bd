"""A test whose own timeout is longer than `faulthandler_timeout` is not ended by the latter; every other one is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLEEP = """
import time
import pytest

{mark}
def test_sleep():
    time.sleep(2)
"""
SETTINGS = "[pytest]\nfaulthandler_timeout = 1\nfaulthandler_exit_on_timeout = true\n"


@pytest.mark.parametrize("mark", ["@pytest.mark.timeout(60)", ""])
def test_faulthandler_ends_a_test_unless_its_own_timeout_is_longer(mark: str, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "test_sleep.py").write_text(SLEEP.format(mark=mark))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "long_tests", "-p", "no:cacheprovider", "test_sleep.py"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    output = done.stdout + done.stderr
    assert ("Timeout (0:00:01)!" in output, "1 passed" in output) == (not mark, bool(mark)), output
