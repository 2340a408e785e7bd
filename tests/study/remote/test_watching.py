"""What a view prints on the cluster while nobody, a driver or a command has the study, and when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger.lease import find_living_holder, hold_lease
from study.ledger.lease_file import Holder
from study.ledger.ledger import Ledger
from study.remote import watching
from study.remote.watching import ENDS, RUNS, WAITS, read_frame, watch


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0.0)
    monkeypatch.setattr(watching, "WAITS_SECONDS", 0.0)


def test_a_view_of_a_study_that_no_process_runs_yet_says_so_again_and_again_and_ends_with_its_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(tmp_path / "not-there", 80, 0.1)
    lines = capsys.readouterr().out.splitlines()
    assert set(lines) == {WAITS}
    assert len(lines) > 1


def test_a_view_of_a_study_that_runs_ends_with_its_life(old: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    with hold_lease(old.folder):
        watch(old.folder, 80, 0.0)
    table, *lines = capsys.readouterr().out.splitlines()
    assert "complete" in (read_frame(table) or "")
    assert lines == [RUNS]


def test_a_command_that_has_the_study_for_a_moment_does_not_run_it(
    old: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_lease(old.folder, brief=True):
        watch(old.folder, 80, 0.0)
    assert capsys.readouterr().out.splitlines()[1:] == [WAITS]


def test_a_view_ends_when_the_process_that_ran_the_study_has_ended(
    old: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_lease(old.folder):
        driver = find_living_holder(old.folder)
    seen: Iterator[Holder | None] = iter([None, driver, driver, None])
    monkeypatch.setattr(watching, "find_living_holder", lambda folder: next(seen))
    watch(old.folder, 80)
    assert capsys.readouterr().out.splitlines()[1:] == [WAITS, RUNS, ENDS]
