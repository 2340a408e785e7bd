"""`plan` that hangs ends with one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hanging_training import read_silent_file
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.main import app


def test_a_plan_whose_probe_hangs_ends_with_one_line(
    study_in: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study_in(failures={"stall_seconds": 1.0})
    monkeypatch.setattr("study.execution.probing.plan_study", lambda study, address: read_silent_file(tmp_path))
    result = CliRunner().invoke(app, ["plan", str(path)])
    assert isinstance(result.exception, UserError), result.output
    line = str(result.exception)
    assert re.match(
        r"the probe of the base recipe made no progress for \d+ s \(failures.stall_seconds 1\) in pathlib", line
    )
    found = re.search(r"all threads are in (\S+\.txt)\.", line)
    assert found, line
    assert "in read_silent_file" in Path(found[1]).read_text()
    Path(found[1]).unlink()
