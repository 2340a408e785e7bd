"""What a tracker keeps in memory: nothing of its own while it follows, and little of the runs that it sends."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from backlogs import RECIPE, open_study, write_backlog
from ledger_events import end_trial
from mlflow_fake import FakeClient

from model.errors import UserError
from study.ledger.events import TrialEpoch
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking import mlflow_runs, mlflow_store, tracker
from study.tracking.run_content import RunContent
from study.tracking.sync import Sync
from study.tracking.tracker import Tracker

SERVER = "http://127.0.0.1:9"


def count_contents() -> int:
    return sum(type(one) is RunContent for one in gc.get_objects())  # `isinstance` asks proxies of what is gone


class CountingClient(FakeClient):
    """Counts how many runs' contents are in memory whenever one is sent, and how many runs are asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[int] = []
        self.asked: set[int] = set()

    def log_batch(self, *arguments: Any, **named: Any) -> None:
        self.contents.append(count_contents())
        super().log_batch(*arguments, **named)

    def search_runs(self, experiments: list[str], query: str, max_results: int, page_token: str | None) -> Any:
        self.asked.add(max_results)
        return super().search_runs(experiments, query, max_results, page_token)


@pytest.mark.slow
def test_a_backlog_is_sent_with_a_few_contents_in_memory_however_long_it_is(tmp_path: Path) -> None:
    ledger, client = open_study(tmp_path, SERVER), CountingClient()
    write_backlog(ledger.folder, trials=60, epochs=2, metrics=3)
    before = count_contents()
    with patch.object(mlflow_runs, "connect", lambda uri: client):
        sync = Sync(ledger)
        while sync.sync_batch():
            pass
        assert Sync(ledger).compare() == 0
    assert len(client.runs) == 61
    assert max(client.contents) - before <= 3
    assert max(client.asked) <= 100


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, Tracker, FakeClient]:
    """A driver's ledger, its tracker, which does not run, and the server behind it."""
    ledger, client = open_study(tmp_path, SERVER), FakeClient()
    monkeypatch.setattr(mlflow_runs, "connect", lambda uri: client)
    monkeypatch.setattr(tracker, "client_of", lambda uri: client)
    ledger.start_session(2, 1)
    ledger.start_trial(0, RECIPE, {"ctc_weight": 0.2})
    ledger.append(TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 40.0}))
    return ledger, Tracker(ledger), client


def test_a_tracker_follows_the_drivers_own_records(started: tuple[Ledger, Tracker, FakeClient]) -> None:
    ledger, running, client = started
    copied = ledger.copy_trials()
    assert copied[0] is ledger.trials[0]
    running.start()
    end_trial(ledger, 0, TrialState.COMPLETE)
    running.wake()
    assert running.close(60.0) == 0
    (run,) = [run for run in client.runs.values() if run.name == "0000"]
    assert run.status == "FINISHED"
    assert (copied[0].state, ledger.trials[0].state) == (TrialState.RUNNING, TrialState.COMPLETE)


def test_the_tracker_of_a_driver_that_was_replaced_sends_nothing_more(
    started: tuple[Ledger, Tracker, FakeClient], caplog: pytest.LogCaptureFixture
) -> None:
    """Its records lack the events of the driver that replaced it."""
    ledger, running, client = started

    def refuse() -> None:
        raise UserError("the study was taken over")

    ledger.check_ownership = refuse
    running.start()
    running.close(60.0)
    assert client.requests == []
    assert caplog.text == ""


@pytest.mark.chaos
def test_the_memory_of_a_catch_up_does_not_grow_with_the_runs_that_were_sent(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    """On MLflow's own SQLite store, 200 trials of 200 points each."""
    database = tmp_path / "mlflow.db"
    shutil.copyfile(empty_mlflow, database)
    ledger = open_study(tmp_path, f"sqlite:///{database}")
    write_backlog(ledger.folder, trials=200, epochs=10, metrics=20)
    sync = Sync(ledger)
    assert sync.sync_batch(), "what is imported and made once"
    peaks, held = measure_batches(sync.sync_batch)
    assert sync.compare() == 0
    half = len(peaks) // 2
    assert max(peaks[half:]) < 1.5 * max(peaks[:half]) + 2**20
    assert (held[-1] - held[half]) / (len(held) - half) < 2**18, "bytes that are kept of a batch of 20 runs"
    assert mlflow_store.is_sqlite(sync.uri)


def measure_batches(sync_batch: Callable[[], int]) -> tuple[list[int], list[int]]:
    """Of each batch until all is sent: the most bytes beside those before it, and the bytes in use after it."""
    peaks, held = [], []
    tracemalloc.start()
    try:
        while True:
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            sent = sync_batch()
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
            if not sent:
                return peaks, held
            peaks.append(peak - before)
            held.append(after)
    finally:
        tracemalloc.stop()
