"""`resume STUDY --on PROFILE` ends the pause of a study that runs there, and starts no second job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jobs_here import JobsHere
from typer.testing import CliRunner

from cluster.jobs.client import Job
from study.cli.main import app
from study.execution.command_desk import take_commands
from study.ledger.commands import describe_user
from study.ledger.events import ControlGiven
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.remote.place import Place
from study.remote.requests import REQUEST
from study.remote.submission import FOLDER, NAME


@pytest.fixture
def jobs(old: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobsHere:
    """The cluster `lab`, on which a job runs the study `old`; the profile is in the current folder."""
    monkeypatch.chdir(tmp_path)
    profile = {"kind": "ray", "storage": str(old.folder.parent.resolve()), "dashboard": "http://here:8265"}
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "lab.yaml").write_text(yaml.safe_dump(profile))
    here = JobsHere(tmp_path / "uploads")
    here.jobs.append(Job("old-1", "RUNNING", {NAME: "old", FOLDER: str(old.folder.resolve())}))

    @contextlib.contextmanager
    def open_place(place: Place) -> Iterator[JobsHere]:
        yield here

    monkeypatch.setattr("study.remote.place.open_place", open_place)
    return here


@contextlib.contextmanager
def drive(folder: Path) -> Iterator[None]:
    """A driver that has the study, and carries out what it is ordered until the block ends."""
    ended = threading.Event()
    with hold_lease(folder) as lease:
        ledger = Ledger.open(folder)
        ledger.check_ownership = lease.check

        def look() -> None:
            while not ended.wait(0.05):
                take_commands(ledger, is_running=True)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def call(*words: str) -> list[str]:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def list_studies_jobs(jobs: JobsHere) -> list[str]:
    return [job.id for job in jobs.jobs if REQUEST not in job.metadata]


def test_resuming_a_study_that_runs_and_is_paused_ends_its_pause_and_starts_no_other_job(
    jobs: JobsHere, old: Ledger
) -> None:
    with drive(old.folder):
        assert call("pause", str(old.folder)) == ["study 'old' is paused, nothing starts until it is resumed"]
        assert Ledger.open(old.folder).trials.steering.paused_by is not None
        lines = call("resume", "old", "--on", "lab")
    assert lines == [
        "study 'old' runs already, as job old-1",
        "follow it with: decred-study attach old --on lab",
        "study 'old' is resumed",
    ]
    assert list_studies_jobs(jobs) == ["old-1"]
    ledger = Ledger.open(old.folder)
    assert ledger.trials.steering.paused_by is None
    given = [(event.command, event.who) for event in ledger.log.read() if isinstance(event, ControlGiven)]
    assert given == [("pause", describe_user()), ("resume", describe_user())]


def test_resuming_a_study_that_runs_and_is_not_paused_changes_nothing(jobs: JobsHere, old: Ledger) -> None:
    with drive(old.folder):
        lines = call("resume", "old", "--on", "lab")
    assert lines == [
        "study 'old' runs already, as job old-1",
        "follow it with: decred-study attach old --on lab",
    ]
    assert list_studies_jobs(jobs) == ["old-1"]
    assert not [event for event in Ledger.open(old.folder).log.read() if isinstance(event, ControlGiven)]
