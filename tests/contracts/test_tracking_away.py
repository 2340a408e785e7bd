"""A store that breaks off, hangs, answers nonsense or is shared: the study keeps its pace, nothing is told twice."""

from __future__ import annotations

import logging
import re
import signal
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts.told import RECIPE, curve, seen, trial

from model.errors import UserError
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking import tracking
from study.tracking.delivery import waiting
from study.tracking.tracking import Tracking, flush, rebuild


def test_a_server_that_never_answered_keeps_nobody_waiting(
    opened: Callable[[str], Ledger], gate: Any, followed: Callable[[Ledger], Tracking], impatient: None
) -> None:
    ledger = opened(gate.url)
    gate.mode = "hang"
    sender = followed(ledger)
    ledger.append("study_started", trials=1, concurrency=1)
    assert paces(ledger, sender.wake, range(2))
    began = time.monotonic()
    left = sender.close(1.5)
    assert time.monotonic() - began < 5
    assert left == len(ledger.events()) == waiting(ledger)
    gate.mode = "pass"
    assert 0 < flush(ledger) <= left  # the request that hung may have got through
    assert waiting(ledger) == 0
    assert_whole_and_once(ledger, range(2))


@pytest.mark.parametrize("fault", ["500", "hang", "frozen", pytest.param("restarted", marks=pytest.mark.slow)])
def test_whatever_the_server_does_the_study_keeps_its_pace_and_nothing_is_lost_or_doubled(
    fault: str,
    opened: Callable[[str], Ledger],
    server: Any,
    gate: Any,
    followed: Callable[[Ledger], Tracking],
    impatient: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = opened(gate.url)
    sender = followed(ledger)
    ledger.append("study_started", trials=9, concurrency=1)
    trial(ledger, 0, wake=sender.wake)
    until(lambda: waiting(ledger) == 0)
    begin, end = faults(server, gate)[fault]
    begin()
    assert paces(ledger, sender.wake, range(1, 4))
    until(lambda: any("does not answer" in record.getMessage() for record in caplog.records))
    assert paces(ledger, sender.wake, range(4, 7))
    assert waiting(ledger) > 0
    end()
    assert sender.close(60) == 0
    assert_whole_and_once(ledger, range(7))
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["does not answer" in said[0], "answers again" in said[1], len(said)] == [True, True, 2], said
    assert not any("\n" in line for line in said)


@pytest.mark.parametrize("request_", ["runs/create", "runs/log-batch", "runs/update", "experiments/create"])
def test_an_answer_that_was_lost_doubles_nothing(
    request_: str, opened: Callable[[str], Ledger], gate: Any, followed: Callable[[Ledger], Tracking]
) -> None:
    ledger = opened(gate.url)
    ledger.append("study_started", trials=9, concurrency=1)
    gate.drop = request_
    sender = followed(ledger)
    sender.wake()
    until(lambda: waiting(ledger) == 0)
    trial(ledger, 0)
    gate.drop = gate.drop or request_
    sender.wake()
    until(lambda: waiting(ledger) == 0)
    trial(ledger, 1)
    assert sender.close(30) == 0
    assert any(path.endswith(request_) for path in gate.asked)
    assert not (gate.drop and request_ != "experiments/create")  # that one is asked for once
    assert_whole_and_once(ledger, range(2))


def test_a_flush_beside_a_running_study_doubles_nothing(
    opened: Callable[[str], Ledger], server: Any, followed: Callable[[Ledger], Tracking]
) -> None:
    ledger = opened(server.url)
    sender = followed(ledger)
    ledger.append("study_started", trials=9, concurrency=1)
    other = Ledger.open(ledger.folder)
    flushing = [threading.Thread(target=rebuild, args=(other,)), threading.Thread(target=flush, args=(other,))]
    for number in range(6):
        trial(ledger, number, wake=sender.wake)
        if number in (1, 3):
            flushing.pop().start()
    assert sender.close(60) == 0
    flush(other)
    assert_whole_and_once(ledger, range(6))


def test_two_studies_on_one_file_take_turns(tmp_path: Path, file: str, followed: Callable[[Ledger], Tracking]) -> None:
    ledgers = []
    for name in ("turns-one", "turns-two"):
        study = StudyFile.model_validate(
            {"name": name, "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "tracking": file}
        )
        ledgers.append(Ledger.create_or_open(tmp_path / name, study, RECIPE, {"id": name}))
        ledgers[-1].append("study_started", trials=9, concurrency=1)
    senders = [followed(ledger) for ledger in ledgers]
    for number in range(5):
        for ledger, sender in zip(ledgers, senders, strict=True):
            trial(ledger, number, wake=sender.wake)
    assert [sender.close(60) for sender in senders] == [0, 0]
    for ledger in ledgers:
        assert_whole_and_once(ledger, range(5))


def test_a_flush_says_in_one_line_that_the_server_is_away(opened: Callable[[str], Ledger]) -> None:
    ledger = opened("http://127.0.0.1:9")
    ledger.append("study_started", trials=1, concurrency=1)
    with pytest.raises(
        UserError, match=r"^tracking http://127.0.0.1:9 does not answer \(.*refused\); start the server"
    ):
        flush(ledger)
    assert waiting(ledger) == 1


def faults(server: Any, gate: Any) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """How each fault begins and ends."""
    return {
        "500": (lambda: setattr(gate, "mode", "500"), lambda: setattr(gate, "mode", "pass")),
        "hang": (lambda: setattr(gate, "mode", "hang"), lambda: setattr(gate, "mode", "pass")),
        "frozen": (lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT)),
        "restarted": (server.stop, server.start),
    }


def paces(ledger: Ledger, wake: Callable[[], None], numbers: range) -> bool:
    """Tell of trials; whether an append with its wake took what it takes alone: a few milliseconds."""
    took = []
    for number in numbers:
        ledger.trial_started(number, RECIPE, {"ctc_weight": 0.1 + number / 100}, "ed" if number == 0 else None)
        for epoch in range(1, 4):
            began = time.perf_counter()
            ledger.trial_epoch(number, epoch, {"dev/wer": 90.0 - epoch, "train/loss": 4.0 / epoch})
            wake()
            took.append(time.perf_counter() - began)
        ledger.trial_ended(number, TrialState.COMPLETE, None, {"test/a/wer": 50.0 + number})
        wake()
    return statistics.median(took) < 0.02 and max(took) < 0.5


def assert_whole_and_once(ledger: Ledger, numbers: range) -> None:
    runs = seen(ledger)
    runs.pop(ledger.study.name)
    assert runs.keys() == {"0000 ed" if number == 0 else f"{number:04d}" for number in numbers}
    for name, run in runs.items():
        assert (run["status"], run["tags"]["trial.state"]) == ("FINISHED", "complete")
        assert curve(run, "dev/wer") == [(1, 89.0), (2, 88.0), (3, 87.0)]
        assert curve(run, "test/a/wer") == [(3, 50.0 + int(name[:4]))]
        assert run["params"]["recipe_hash"] == RECIPE.hash


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("status", ["401", "403"])
def test_refused_credentials_are_told_once_and_the_server_is_asked_no_more(
    status: str,
    opened: Callable[[str], Ledger],
    gate: Any,
    followed: Callable[[Ledger], Tracking],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = opened(gate.url)
    gate.mode = status
    trial(ledger, 0)
    with caplog.at_level(logging.WARNING):
        sender = followed(ledger)
        until = time.monotonic() + 30
        while not sender.refused:
            assert time.monotonic() < until
            time.sleep(0.05)
        asked = len(gate.asked)
        trial(ledger, 1, wake=sender.wake)
        began = time.monotonic()
        waits = sender.close()
    assert time.monotonic() - began < 5
    assert waits == len(ledger.events())
    assert len(gate.asked) == asked == 1
    (said,) = [record.getMessage() for record in caplog.records if record.name == "study.tracking.tracking"]
    assert re.match(
        rf"tracking: {gate.url} refuses the credentials \(.*{status}.*\); the study goes on and tells", said
    )
    line = tracking.undelivered(waits, sender.uri, Path("study.yaml"), sender.refused)
    assert line == (
        f"{waits} events wait for MLflow at {gate.url}, which refuses the credentials; set MLFLOW_TRACKING_USERNAME "
        "and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, then send them with: decred-study track study.yaml "
        "--flush"
    )
    with pytest.raises(UserError, match=r"refuses the credentials \(.*\); set MLFLOW_TRACKING_USERNAME"):
        flush(ledger)
    gate.mode = "pass"
    assert flush(ledger) == waits
