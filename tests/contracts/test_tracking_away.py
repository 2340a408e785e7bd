"""A store that breaks off, hangs, answers errors or is shared: the study keeps its pace, no run or row comes twice."""

from __future__ import annotations

import logging
import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from contracts.tracked_study import RECIPE, curve, read_runs, write_trial
from ledger_events import end_trial, report_epoch

from model.errors import UserError
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking import tracker as tracking
from study.tracking.flush import count_outdated, describe_outdated, flush
from study.tracking.sync import Sync
from study.tracking.tracker import Tracker


def test_a_server_that_never_answers_delays_nothing(
    open_study: Callable[[str], Ledger],
    gate: Any,
    start_tracker: Callable[[Ledger], Tracker],
    short_waits: Callable[[], AbstractContextManager[None]],
) -> None:
    ledger = open_study(gate.url)
    gate.mode = "hang"
    with short_waits():
        tracker = start_tracker(ledger)
        assert_same_pace(ledger, tracker.wake, range(2))
        began = time.monotonic()
        left = tracker.close(1.5)
        assert time.monotonic() - began < 5
    assert (left, tracker.has_compared) == (3, False)
    gate.mode = "pass"
    assert flush(ledger) <= left  # the tracker's thread, which no program outlives, may come first
    assert count_outdated(ledger) == 0
    assert_whole_and_once(ledger, range(2))


def test_a_store_that_takes_one_run_again_and_again_delays_the_end_no_longer_than_one_that_takes_none(
    open_study: Callable[[str], Ledger],
    start_tracker: Callable[[Ledger], Tracker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So it was seen on a full disk: each try wrote the first run, and had no room for the second one."""
    ledger = open_study("http://127.0.0.1:9")
    write_trial(ledger, 0)
    tries: list[float] = []

    def send_the_first(sync: Sync, verify: bool = False) -> int:
        tries.append(time.monotonic())
        sync._on_progress(None)
        raise OSError("database or disk is full")

    monkeypatch.setattr(Sync, "sync_batch", send_the_first)
    for pause in ("_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(tracking, pause, 0.1)
    tracker = start_tracker(ledger)
    began = time.monotonic()
    assert tracker.close(1.5) == 2
    assert time.monotonic() - began < 5
    assert len([at for at in tries if at > began]) > 1


@pytest.mark.parametrize("fault", ["500", "hang", "frozen", pytest.param("restarted", marks=pytest.mark.slow)])
def test_whatever_the_server_does_the_study_keeps_its_pace_and_nothing_is_lost_or_doubled(
    fault: str,
    open_study: Callable[[str], Ledger],
    server: Any,
    gate: Any,
    start_tracker: Callable[[Ledger], Tracker],
    short_waits: Callable[[], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = open_study(gate.url)
    tracker = start_tracker(ledger)
    ledger.start_session(9, 1)
    write_trial(ledger, 0, wake=tracker.wake)
    wait_until(lambda: tracker.count_outdated() == 0)
    begin, end = faults(server, gate)[fault]
    begin()
    with short_waits():
        assert_same_pace(ledger, tracker.wake, range(1, 4))
        wait_until(lambda: any("does not answer" in record.getMessage() for record in caplog.records))
        assert_same_pace(ledger, tracker.wake, range(4, 7))
        assert tracker.count_outdated() > 0
    end()
    assert tracker.close(60) == 0
    assert_whole_and_once(ledger, range(7))
    away, back = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert re.fullmatch(
        rf"tracking: {gate.url} does not answer \(.*\); the study continues, its runs are sent later", away
    )
    assert back == f"tracking: {gate.url} answers again"


@pytest.mark.parametrize("request_", ["runs/create", "runs/log-batch", "runs/update", "experiments/create"])
def test_an_answer_that_was_lost_doubles_nothing(
    request_: str, open_study: Callable[[str], Ledger], gate: Any, start_tracker: Callable[[Ledger], Tracker]
) -> None:
    ledger = open_study(gate.url)
    ledger.start_session(9, 1)
    gate.drop = request_
    tracker = start_tracker(ledger)
    tracker.wake()
    wait_until(lambda: tracker.count_outdated() == 0)
    write_trial(ledger, 0)
    gate.drop = gate.drop or request_
    tracker.wake()
    wait_until(lambda: tracker.count_outdated() == 0)
    write_trial(ledger, 1)
    assert tracker.close(30) == 0
    assert any(path.endswith(request_) for path in gate.requests)
    assert not (gate.drop and request_ != "experiments/create")  # that one is asked for once
    assert_whole_and_once(ledger, range(2))


def test_a_flush_beside_a_running_study_doubles_nothing(
    open_study: Callable[[str], Ledger], server: Any, start_tracker: Callable[[Ledger], Tracker]
) -> None:
    ledger = open_study(server.url)
    tracker = start_tracker(ledger)
    ledger.start_session(9, 1)
    other = Ledger.open(ledger.folder)
    with ThreadPoolExecutor(2) as threads:  # joined, and their errors raised, before the tracker is closed
        flushes = []
        for number in range(6):
            write_trial(ledger, number, wake=tracker.wake)
            if number in (1, 3):
                flushes.append(threads.submit(flush, other, number == 3))
        for running in flushes:
            running.result(60)
    assert tracker.close(60) == 0
    assert flush(other) == 0
    assert_whole_and_once(ledger, range(6))


def test_two_studies_on_one_file_take_turns(
    tmp_path: Path, file: str, start_tracker: Callable[[Ledger], Tracker]
) -> None:
    ledgers = []
    for name in ("turns-one", "turns-two"):
        study = StudyFile.model_validate(
            {"name": name, "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "tracking": file}
        )
        ledgers.append(Ledger.create_or_open(tmp_path / name, study, RECIPE, {"id": name}))
    trackers = [start_tracker(ledger) for ledger in ledgers]
    for number in range(5):
        for ledger, tracker in zip(ledgers, trackers, strict=True):
            write_trial(ledger, number, wake=tracker.wake)
    assert [tracker.close(60) for tracker in trackers] == [0, 0]
    for ledger in ledgers:
        assert_whole_and_once(ledger, range(5))


@pytest.mark.parametrize("command", [flush, count_outdated])
def test_track_reports_in_one_line_that_the_server_is_away(
    command: Callable[[Ledger], int], open_study: Callable[[str], Ledger]
) -> None:
    ledger = open_study("http://127.0.0.1:9")
    ledger.start_session(1, 1)
    words = r"^tracking http://127.0.0.1:9 does not answer \(.*refused\); start the server.*$"
    with pytest.raises(UserError, match=words):
        command(ledger)


@pytest.mark.parametrize("command", [flush, count_outdated])
def test_track_reports_in_one_line_that_the_server_answers_errors(
    command: Callable[[Ledger], int], open_study: Callable[[str], Ledger], gate: Any
) -> None:
    ledger = open_study(gate.url)
    write_trial(ledger, 0)
    gate.mode = "500"
    with pytest.raises(UserError, match=rf"^tracking {gate.url} does not answer \(.*\); start the server.*$"):
        command(ledger)


@pytest.mark.parametrize("status", ["401", "403"])
def test_refused_credentials_are_reported_once_and_the_server_is_asked_no_more(
    status: str,
    open_study: Callable[[str], Ledger],
    gate: Any,
    start_tracker: Callable[[Ledger], Tracker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = open_study(gate.url)
    gate.mode = status
    write_trial(ledger, 0)
    with caplog.at_level(logging.WARNING):
        tracker = start_tracker(ledger)
        wait_until(lambda: tracker.refused, 30)
        requests = len(gate.requests)
        write_trial(ledger, 1, wake=tracker.wake)
        began = time.monotonic()
        outdated = tracker.close()
    assert time.monotonic() - began < 5
    assert outdated == 3
    assert len(gate.requests) == requests == 1
    (line,) = [record.getMessage() for record in caplog.records if record.name == "study.tracking.tracker"]
    assert re.fullmatch(
        rf"tracking: {gate.url} refuses the credentials \(.*{status}.*\); the study continues, nothing more is sent",
        line,
    )
    line = describe_outdated(outdated, tracker.uri, Path("study.yaml"), tracker.refused, tracker.has_compared)
    assert line == (
        f"3 runs may not be up to date in MLflow at {gate.url}, which refuses the credentials; set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, then send them with: "
        "decred-study track study.yaml --flush"
    )
    for command in (flush, count_outdated):
        with pytest.raises(UserError, match=r"refuses the credentials \(.*\); set MLFLOW_TRACKING_USERNAME"):
            command(ledger)
    gate.mode = "pass"
    assert flush(ledger) == outdated


def faults(server: Any, gate: Any) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """How each fault begins and ends."""
    return {
        "500": (lambda: setattr(gate, "mode", "500"), lambda: setattr(gate, "mode", "pass")),
        "hang": (lambda: setattr(gate, "mode", "hang"), lambda: setattr(gate, "mode", "pass")),
        "frozen": (lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT)),
        "restarted": (server.stop, server.start),
    }


def assert_same_pace(ledger: Ledger, wake: Callable[[], None], numbers: range) -> None:
    """Run trials; no append with its wake takes as long as a request that is not answered, which is a second.

    The disk is not waited for: a busy one may take as long.
    """
    seconds = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        for number in numbers:
            ledger.start_trial(number, RECIPE, {"ctc_weight": 0.1 + number / 100}, "ed" if number == 0 else None)
            for epoch in range(1, 4):
                began = time.perf_counter()
                report_epoch(ledger, number, epoch, {"dev/wer": 90.0 - epoch, "train/loss": 4.0 / epoch})
                wake()
                seconds.append(time.perf_counter() - began)
            end_trial(ledger, number, TrialState.COMPLETE, None, {"test/a/wer": 50.0 + number})
            wake()
    assert statistics.median(seconds) < 0.2
    assert max(seconds) < 0.9


def assert_whole_and_once(ledger: Ledger, numbers: range) -> None:
    runs = read_runs(ledger)
    runs.pop(ledger.study.name)
    assert runs.keys() == {"0000 ed" if number == 0 else f"{number:04d}" for number in numbers}
    for name, run in runs.items():
        assert (run["status"], run["tags"]["trial.state"]) == ("FINISHED", "complete")
        assert curve(run, "dev/wer") == [(1, 89.0), (2, 88.0), (3, 87.0)]
        assert curve(run, "test/a/wer") == [(3, 50.0 + int(name[:4]))]
        assert run["params"]["recipe_hash"] == RECIPE.hash


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
