"""Following a study of a cluster on a terminal: views, jobs there that come one after the other, print its table."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cluster.errors import ClusterError
from cluster.jobs.client import Job, Jobs
from model.errors import UserError
from study.display.board import make_console
from study.remote.place import Place
from study.remote.requests import REQUEST, pack_project
from study.remote.studies import describe_state, find_study, follow_log
from study.remote.submission import FOLDER, NAME
from study.remote.watching import ENDS, RUNS, WAITS, read_frame

CLEAR = "\x1b[H\x1b[J"
CLOSING_SECONDS = 30.0  # for a study's job to end after its process has given the study up
PAUSE_SECONDS = 5.0  # before the view that follows one that failed
MOST_FAILED = 3  # views in a row that failed and had no table


@dataclass
class _Follower:
    """A study that is followed, and what its views have shown."""

    jobs: Jobs
    study: Job
    place: Place
    upload: Path
    table: str = ""  # the last one
    seen: str = ""  # by the latest view, in the end: WAITS, RUNS or ENDS
    has_run: bool = False  # whether any view has seen a process run the study
    has_said: bool = False  # that the study prepares
    failed: int = 0  # views in a row, without a table

    @property
    def name(self) -> str:
        return self.study.metadata[NAME]

    @property
    def log_command(self) -> str:
        return f"decred-study logs {self.name} {self.place.option}"


def attach(jobs: Jobs, place: Place, name: str) -> Job:
    """Show a study's table as it changes, until its job has ended; the job. Ctrl-C ends the view, not the study."""
    study = find_study(jobs, name)
    with tempfile.TemporaryDirectory(prefix="decred-attach-") as upload:
        pack_project(Path(upload))
        follower = _Follower(jobs, study, place, Path(upload))
        while True:
            _show_view(follower)
            study = jobs.wait(study.id, CLOSING_SECONDS if follower.seen == ENDS else 0.0)
            if study.has_ended and follower.seen != RUNS:  # else a process that is not of this job runs the study
                break
            if follower.failed:
                time.sleep(PAUSE_SECONDS)
    if not follower.table:
        state = describe_state(study)
        print(f"study '{name}' has ended ({state}), and no table of it was shown; see {follower.log_command}")
    return study


@contextlib.contextmanager
def interrupted_by_hangup() -> Iterator[None]:
    """A terminal that is closed, and SIGTERM, end the block as Ctrl-C does. Outside the main thread they do not."""
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGHUP, signal.SIGTERM)}
    handlers = {kind: handler for kind, handler in handlers.items() if handler is not signal.SIG_IGN}  # as by nohup
    with contextlib.suppress(ValueError):
        for kind in handlers:
            signal.signal(kind, _interrupt)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            for kind, handler in handlers.items():
                signal.signal(kind, handler)


def _interrupt(kind: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # of a closed terminal it comes twice, from the kernel and the shell
    raise KeyboardInterrupt


def _show_view(follower: _Follower) -> None:
    """Start a view and show what it prints, to its end or until the study's job has ended."""
    jobs, view, has_table, said = follower.jobs, f"request-{uuid.uuid4().hex[:12]}", False, ""
    words = ["python", "-m", "study.remote.watching", follower.study.metadata[FOLDER], str(make_console().width)]
    follower.seen = ""
    try:
        about = {REQUEST: f"attach {follower.name}"}
        jobs.submit(follower.upload, shlex.join(words), view, about, dict(follower.place.profile.env))
        for line in follow_log(jobs, view):
            if (table := read_frame(line)) is not None:
                has_table = True
                _show_table(follower, table)
            elif line not in (WAITS, RUNS, ENDS):
                said = line.strip() or said
            else:
                follower.seen = line
                follower.has_run = follower.has_run or line == RUNS
                if line == WAITS and _has_ended(follower):
                    return
    finally:
        with contextlib.suppress(Exception):  # the view is over; a cluster that is gone has ended it
            jobs.stop(view, 0.0)
    _count_failed(follower, jobs.find(view), has_table, said)


def _show_table(follower: _Follower, table: str) -> None:
    """Show a table, unless it is there: a view begins with the one that the view before it has ended with."""
    if table != follower.table:
        print((CLEAR if sys.stdout.isatty() else "") + table, end="", flush=True)
        follower.table = table


def _has_ended(follower: _Follower) -> bool:
    """Whether the job of a study that no process runs has ended. That the study prepares until then is said once."""
    with contextlib.suppress(ClusterError):  # following the view's log finds out whether the cluster answers again
        if follower.jobs.find(follower.study.id).has_ended:
            return True
    if not (follower.has_run or follower.has_said):
        follower.has_said = True
        log = f"{follower.log_command} --follow"
        print(f"study '{follower.name}' prepares, its table follows when trials start; see {log}", flush=True)
    return False


def _count_failed(follower: _Follower, view: Job, has_table: bool, said: str) -> None:
    """Count a view that failed and had no table; a UserError where one after the other does."""
    follower.failed = follower.failed + 1 if view.status == "FAILED" and not has_table else 0
    if follower.failed == MOST_FAILED:
        reason = (said or view.message.strip() or "it printed nothing").splitlines()[-1]
        raise UserError(
            f"the table of study '{follower.name}' cannot be read on the cluster ({reason}); its job "
            f"{follower.study.id} goes on, see {follower.log_command}"
        )
