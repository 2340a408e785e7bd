from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_make_alone_prints_every_target_and_runs_none() -> None:
    # The suite itself is run by make, and make announces the folder when it runs inside another make.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    printed = subprocess.run(["make"], cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    listed = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    assert [line.split()[:2] for line in printed.splitlines()] == [["make", name] for name in listed[1].split()]
    assert all(len(line.split()) > 2 for line in printed.splitlines()), "a target without a description"
