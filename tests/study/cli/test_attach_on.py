"""How `attach --on PROFILE` ends: its exit code is what became of the study, and is never that of an unfinished one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from cluster.jobs.client import Job
from model.errors import UserError
from study.cli.main import app
from study.remote.place import Place

Attach = Callable[[], Job]


@pytest.fixture
def attach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Attach], int]:
    """Call `attach demo --on lab`, which does what it is given; the exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.yaml").write_text("kind: ray\nstorage: /storage\ndashboard: http://here:8265\n")

    @contextlib.contextmanager
    def open_place(place: Place) -> Iterator[None]:
        yield None

    def call(does: Attach) -> int:
        monkeypatch.setattr("study.remote.place.open_place", open_place)
        monkeypatch.setattr("study.remote.attaching.attach", lambda *_: does())
        return int(app(["attach", "demo", "--on", "lab.yaml"], standalone_mode=False) or 0)

    return call


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("STOPPED", 130), ("FAILED", 1)])
def test_the_exit_code_is_what_became_of_the_study(status: str, code: int, attach: Callable[[Attach], int]) -> None:
    assert attach(lambda: Job("demo-1", status)) == code


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_study_that_has_not_ended_is_an_error(status: str, attach: Callable[[Attach], int]) -> None:
    with pytest.raises(UserError, match=f"^job demo-1 has not ended, it is {status.lower()}; give the command again$"):
        attach(lambda: Job("demo-1", status))


def test_a_terminal_that_is_closed_ends_it_as_ctrl_c_does(attach: Callable[[Attach], int]) -> None:
    def hang_up() -> Job:
        signal.raise_signal(signal.SIGHUP)
        return Job("demo-1", "SUCCEEDED")

    before = signal.signal(signal.SIGHUP, _pass)
    try:
        assert attach(hang_up) == 130
    finally:
        signal.signal(signal.SIGHUP, before)


def _pass(kind: int, frame: FrameType | None) -> None:
    """A handler with which a signal that nobody else handles does not end the tests."""
