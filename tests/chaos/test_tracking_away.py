"""MLflow's server is stopped, frozen, restarted, or stays away: the study keeps its pace, and nothing is lost."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaos.faults import FOLDER, Events, Locker, gaps, has_epochs, inject_faults
from chaos.records import assert_records_agree
from mlflow_server import Server

from study.ledger.event_log import EventLog
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking import mlflow_store, tracker
from study.tracking.tracker import Tracker

pytestmark = pytest.mark.chaos


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is not answered ends in seconds, as many as a busy machine needs, and is tried again soon."""
    monkeypatch.setattr(mlflow_store, "_REQUEST_PATIENCE", 4)
    monkeypatch.setattr(tracker, "_LONGEST_PAUSE", 1.0)


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a run, to be copied: making them takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "runs.db"
    mlflow_store.client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def servers(empty_file: Path, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts servers, each on an empty SQLite file of its own, and ends them with the test."""
    started: list[Server] = []

    def start() -> Server:
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        shutil.copy(empty_file, folder / "runs.db")
        started.append(Server(f"sqlite:///{folder}/runs.db", folder))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()


def since(many: int) -> Callable[[Events], Events]:
    """The events from the epoch of this number on."""

    def cut(events: Events) -> Events:
        counts = itertools.accumulate(event.kind == "trial_epoch" for event in events)
        return [event for event, count in zip(events, counts, strict=True) if count >= many]

    return cut


def assert_same_pace(events: Events, faults_from: int) -> None:
    """From the first fault on, no gap is a second longer than the longest before, and epochs take as long as before.

    What comes before the first epoch is the start of a driver, and left out.
    """
    during, trained = since(faults_from)(events), since(1)(events)
    before = trained[: len(trained) - len(during)]
    longest, usual = max(gaps(before)), statistics.median(gaps(before))
    print(f"pace before: median {usual:.3f} s, longest {longest:.2f} s; ", end="")
    print(f"with the faults: median {statistics.median(gaps(during)):.3f} s, longest {max(gaps(during)):.2f} s")
    assert max(gaps(during)) < longest + 1.0
    assert statistics.median(gaps(during)) < 2 * usual + 0.05


def test_a_server_that_is_stopped_restarted_and_frozen_slows_no_study_and_has_all_of_it_once(
    short_waits: None,
    servers: Callable[[], Server],
    plain_study: Callable[..., Path],
    decred_study: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tracker.close, "__defaults__", (60.0,))  # the server is back, however busy the machine is
    server = servers()
    path = plain_study({"training.epochs": 40}, trials=9, tracking=server.url)
    with inject_faults(
        FOLDER,
        (has_epochs(90), server.end),
        (has_epochs(130), server.start),
        (has_epochs(180), lambda: server.signal(signal.SIGSTOP)),
        (has_epochs(240), lambda: server.signal(signal.SIGCONT)),
    ):
        result = decred_study("run", path.name)
    assert result.code == 0, result
    assert "up to date in MLflow" not in result.out, result.out
    assert_same_pace(EventLog(FOLDER).read(), faults_from=90)
    assert {record.state for record in Ledger.open(FOLDER).trials.values()} == {TrialState.COMPLETE}
    assert len(Ledger.open(FOLDER).trials) == 9
    assert_records_agree(FOLDER)


def test_runs_that_a_server_missed_are_sent_by_the_command_that_the_study_ends_with(
    short_waits: None,
    servers: Callable[[], Server],
    plain_study: Callable[..., Path],
    decred_study: Callable[..., Any],
) -> None:
    server = servers()
    path = plain_study({"training.epochs": 10}, trials=4, tracking=server.url)
    with inject_faults(FOLDER, (has_epochs(15), server.end)):
        result = decred_study("run", path.name)
    assert result.code == 0, result
    left = re.search(
        r"^(\d+) runs are not up to date in MLflow at (\S+); send them with: decred-study (.+)$",
        result.out,
        re.MULTILINE,
    )
    assert left, result.out
    assert left[2] == server.url
    assert int(left[1]) >= 4  # the trials behind the first, and the study's own
    server.start()
    assert decred_study(*left[3].split()).out == f"{left[1]} runs sent to MLflow at {server.url}\n"
    assert_records_agree(FOLDER)

    other = servers()
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"tracking": other.url}))
    result = decred_study("track", path.name, "--rebuild")
    assert result.out == f"{len(Ledger.open(FOLDER).trials) + 1} runs sent to MLflow at {other.url}\n"
    assert_records_agree(FOLDER, other.url)
    assert decred_study("run", path.name).code == 0
    assert_records_agree(FOLDER)


def test_a_locked_database_of_mlflow_slows_no_study_and_has_all_of_it_once(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 40}, trials=5)
    locker = Locker((FOLDER / "mlflow.db").resolve())
    with inject_faults(FOLDER, (has_epochs(60), locker.lock), (has_epochs(150), locker.free)):
        result = decred_study("run", path.name)
    assert result.code == 0, result
    assert "up to date in MLflow" not in result.out, result.out
    assert_same_pace(EventLog(FOLDER).read(), faults_from=60)
    assert_records_agree(FOLDER)
