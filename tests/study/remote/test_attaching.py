"""`attach` from a laptop: one view after the other until the study's job has ended, and none that stays behind."""

from __future__ import annotations

import base64
import contextlib
import re
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from cluster.jobs.client import Job, Jobs
from cluster.profiles.profile import RayProfile
from model.errors import UserError
from study.remote import attaching
from study.remote.attaching import attach, interrupted_by_hangup
from study.remote.place import Place
from study.remote.submission import FOLDER, NAME
from study.remote.watching import ENDS, FRAME, RUNS, WAITS

PLACE = Place("lab", RayProfile(kind="ray", storage="/storage", dashboard="http://here:8265"))
PREPARES = "study 'demo' prepares, its table follows when trials start; see decred-study logs demo --on lab --follow\n"
View = list[str | Callable[[], object]]


class Watched(Jobs):
    """A cluster that runs study `demo`, and views, each of which prints lines and does what a test wants."""

    def __init__(self) -> None:
        self.dashboard = "http://here:8265"
        self.study = Job("demo-1", "RUNNING", {NAME: "demo", FOLDER: "/storage/demo"})
        self.views: list[View] = []
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.status = "SUCCEEDED"  # of views that have ended
        self.at_stop: Callable[[], object] = lambda: None

    def submit(
        self, folder: Path, command: str, job_id: str, metadata: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        assert re.fullmatch(r"python -m study.remote.watching /storage/demo \d+", command)
        self.started.append(job_id)

    def list(self) -> list[Job]:
        return [self.study]

    def find(self, job_id: str) -> Job:
        return self.study if job_id == self.study.id else Job(job_id, self.status)

    def follow(self, job_id: str, patience: float = 0.0) -> Iterator[str]:
        for item in self.views.pop(0):
            if isinstance(item, str):
                yield item + "\n"
            else:
                item()

    def stop(self, job_id: str, seconds: float = 0.0) -> Job:
        self.at_stop()
        self.stopped.append(job_id)
        return self.find(job_id)

    def end(self, status: str = "SUCCEEDED") -> Callable[[], None]:
        """What ends the study's job."""

        def end() -> None:
            self.study = replace(self.study, status=status)

        return end


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(attaching, "pack_project", lambda folder: None)
    monkeypatch.setattr(attaching, "PAUSE_SECONDS", 0.0)
    jobs = Watched()
    yield jobs
    assert jobs.stopped == jobs.started, "a view stays on the cluster"


def show(table: str) -> str:
    return FRAME + base64.b64encode(zlib.compress(table.encode())).decode()


def test_a_study_that_prepares_for_longer_than_a_view_lives_is_followed_to_its_end(
    jobs: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.views = [[WAITS, WAITS], [WAITS], [WAITS, RUNS, show("one\n"), show("two\n"), jobs.end(), ENDS]]
    assert attach(jobs, PLACE, "demo").status == "SUCCEEDED"
    assert len(jobs.started) == 3
    assert capsys.readouterr().out == PREPARES + "one\ntwo\n"


def test_the_next_view_shows_no_table_again_and_says_nothing(
    jobs: Watched, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "CLOSING_SECONDS", 0.0)
    jobs.views = [
        [show("one\n"), RUNS, show("two\n")],
        [show("two\n"), RUNS, show("three\n"), ENDS],
        [show("three\n"), WAITS, jobs.end(), WAITS],  # the job takes long to end
    ]
    attach(jobs, PLACE, "demo")
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


@pytest.mark.parametrize("view", [[], [RUNS, show("one\n")]], ids=["at once", "while the study runs"])
def test_a_view_that_is_killed_is_followed_by_another(
    view: View, jobs: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.status = "FAILED"
    jobs.views = [view, view, [RUNS, show("one\n"), show("two\n"), jobs.end("STOPPED"), ENDS]]
    assert attach(jobs, PLACE, "demo").status == "STOPPED"
    assert capsys.readouterr().out == "one\ntwo\n"


def test_views_that_fail_one_after_the_other_are_one_line_with_their_reason(jobs: Watched) -> None:
    jobs.status = "FAILED"
    jobs.views = [["Traceback (most recent call last):", "MemoryError", ""]] * 3
    message = (
        r"^the table of study 'demo' cannot be read on the cluster \(MemoryError\); its job demo-1 goes on, see "
        r"decred-study logs demo --on lab$"
    )
    with pytest.raises(UserError, match=message):
        attach(jobs, PLACE, "demo")


def test_a_study_whose_preparation_fails_ends_its_view(jobs: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.views = [[WAITS, jobs.end("FAILED"), WAITS, lambda: pytest.fail("the view goes on")]]
    assert attach(jobs, PLACE, "demo").status == "FAILED"
    said = "study 'demo' has ended (failed), and no table of it was shown; see decred-study logs demo --on lab\n"
    assert capsys.readouterr().out == PREPARES + said


def test_a_study_that_has_ended_is_shown_once(jobs: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    jobs.end()()
    jobs.views = [[show("one\n"), WAITS, lambda: pytest.fail("the view goes on")]]
    assert attach(jobs, PLACE, "demo").status == "SUCCEEDED"
    assert capsys.readouterr().out == "one\n"


def test_ctrl_c_stops_the_view(jobs: Watched) -> None:
    jobs.views = [[RUNS, lambda: signal.raise_signal(signal.SIGINT)]]
    with pytest.raises(KeyboardInterrupt):
        attach(jobs, PLACE, "demo")


@pytest.mark.parametrize("kind", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_is_closed_and_sigterm_stop_the_view_as_ctrl_c_does(
    kind: signal.Signals, jobs: Watched
) -> None:
    jobs.views = [[RUNS, lambda: signal.raise_signal(kind)]]
    jobs.at_stop = lambda: signal.raise_signal(signal.SIGHUP)  # a second one, from the shell
    with handled(signal.SIGHUP, _pass), handled(kind, _pass):
        with pytest.raises(KeyboardInterrupt), interrupted_by_hangup():
            attach(jobs, PLACE, "demo")
        assert signal.getsignal(kind) == _pass


def test_a_hangup_that_is_ignored_stays_so() -> None:
    with handled(signal.SIGHUP, signal.SIG_IGN):  # as nohup does
        with interrupted_by_hangup():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@contextlib.contextmanager
def handled(kind: signal.Signals, handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(kind, handler)
    try:
        yield
    finally:
        signal.signal(kind, before)


def _pass(kind: int, frame: FrameType | None) -> None:
    """A handler with which a signal that nobody else handles does not end the tests."""
