"""MLflow hears of a study whole and once, on every store, whatever becomes of its server meanwhile."""

from __future__ import annotations

import logging
import math
import re
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from model.errors import UserError
from model.recipe_files import named_recipe
from study import delivery, mlflow_store, tracking
from study.delivery import waiting
from study.ledger import Ledger
from study.study_file import StudyFile
from study.tracking import Tracking, flush, rebuild
from study.trial_record import State, TrialRecord

RECIPE = named_recipe("tiny", "/speech")
STORES = ("file", "server", "server_on_postgresql", pytest.param("postgresql", marks=pytest.mark.slow))


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Ledger]:
    """A new study on the store at a URI; each test has an experiment of its own."""
    name = re.sub(r"\W+", "-", request.node.name)

    def make(uri: str) -> Ledger:
        study = {"name": name, "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
        folder = tmp_path / name
        return Ledger.create_or_open(
            folder, StudyFile.model_validate(study | {"tracking": uri}), RECIPE, {"id": f"id-{name}"}
        )

    return make


@pytest.fixture(params=STORES)
def anywhere(request: pytest.FixtureRequest, opened: Callable[[str], Ledger]) -> Ledger:
    """A study on each kind of store."""
    store = request.getfixturevalue(request.param)
    return opened(store if isinstance(store, str) else store.url)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is not answered ends after a second, and is tried again soon."""
    monkeypatch.setattr(mlflow_store, "_REQUEST_PATIENCE", 1)
    monkeypatch.setattr(tracking, "_LONGEST_PAUSE", 1.0)


@pytest.fixture
def followed() -> Iterator[Callable[[Ledger], Tracking]]:
    """Starts senders, and ends them with the test."""
    started: list[Tracking] = []

    def follow(ledger: Ledger) -> Tracking:
        started.append(Tracking(ledger))
        started[-1].start()
        return started[-1]

    yield follow
    for each in started:
        each.close(0)


def trial(ledger: Ledger, number: int, epochs: int = 3, wake: Callable[[], None] = lambda: None) -> None:
    """One whole trial."""
    ledger.trial_started(number, RECIPE, {"ctc_weight": 0.1 + number / 100}, "ed" if number == 0 else None)
    wake()
    for epoch in range(1, epochs + 1):
        ledger.trial_epoch(number, epoch, {"dev/wer": 90.0 - epoch, "train/loss": 4.0 / epoch})
        wake()
    ledger.trial_ended(number, State.COMPLETE, None, {"test/a/wer": 50.0 + number})
    wake()


def whole_study(ledger: Ledger) -> None:
    """Every kind of event, with a resume in the middle."""
    ledger.append("study_started", trials=7, concurrency=2)
    trial(ledger, 0)
    ledger.trial_started(1, RECIPE, {"ctc_weight": 0.2}, None)
    ledger.trial_epoch(1, 1, {"dev/wer": 80.0, "train/loss": math.nan})
    ledger.trial_started(2, RECIPE, {"ctc_weight": 0.3}, None)
    ledger.trial_epoch(2, 1, {"dev/wer": 70.0})
    ledger.trial_ended(1, State.INTERRUPTED, "the study was stopped")
    ledger.append("study_interrupted")  # trial 2 died with it
    ledger.append("study_started", trials=5, concurrency=2)
    ledger.trial_started(1, RECIPE, {"ctc_weight": 0.2}, None)
    ledger.trial_epoch(1, 1, {"dev/wer": 81.0})  # heard before the stop
    ledger.trial_epoch(1, 2, {"dev/wer": 79.0})
    ledger.trial_ended(1, State.PRUNED, "stopped at epoch 2")
    ledger.trial_infeasible(3, {"ctc_weight": 0.5}, "heads 3 do not divide width 128")
    ledger.trial_started(4, RECIPE, {"ctc_weight": 0.4}, None)
    ledger.trial_retried(4, "a worker was lost", 1, "failures.retries")
    ledger.trial_started(4, RECIPE, {"ctc_weight": 0.4}, None)
    ledger.append("something_new", number=4)
    ledger.trial_ended(4, State.FAILED, "no memory")
    ledger.trial_started(5, RECIPE, {"ctc_weight": 0.6}, None)
    ledger.trial_epoch(5, 1, {"dev/wer": 60.0})
    ledger.trial_paused(5, 1, "waits at the rung of epoch 1")
    ledger.trial_imported(6, "elsewhere/3", elsewhere())
    ledger.trial_started(7, RECIPE, {"ctc_weight": 0.7}, None)


def elsewhere() -> TrialRecord:
    """A trial of another study."""
    epochs = ({"epoch": 1, "dev/wer": 55.0}, {"epoch": 2, "dev/wer": 45.0})
    metrics = {"dev/wer": 45.0, "test/a/wer": 65.0}
    values = {"ctc_weight": 0.25}
    return TrialRecord(3, State.COMPLETE, None, None, values, RECIPE.hash, epochs, metrics, 1.7e9, 1.7e9 + 60)


def seen(ledger: Ledger, uri: str | None = None) -> dict[str, dict[str, Any]]:
    """All that MLflow shows of the study's runs, by their names; no name may come twice."""
    client = MlflowClient(tracking_uri=uri or ledger.study.tracking)
    runs = client.search_runs([client.get_experiment_by_name(ledger.study.name).experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {
        run.info.run_name: {
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name.startswith(("trial.", "study."))},
            "nested": "mlflow.parentRunId" in run.data.tags,
            "curves": {name: history(client, run.info.run_id, name) for name in run.data.metrics},
            "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        }
        for run in runs
    }


def history(client: MlflowClient, run: str, name: str) -> list[tuple[int, str, int]]:
    points = client.get_metric_history(run, name)
    return sorted((point.step, str(point.value), point.timestamp) for point in points)


def curve(run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    return [(step, float(value)) for step, value, _ in run["curves"][name]]


def test_a_study_is_told_with_every_state_parameter_and_epoch(anywhere: Ledger) -> None:
    whole_study(anywhere)
    told = flush(anywhere)
    assert told == len(anywhere.events())
    runs = seen(anywhere)
    study = runs.pop(anywhere.study.name)
    assert (study["status"], study["nested"]) == ("RUNNING", False)
    assert all(run["nested"] for run in runs.values())
    assert {name: (run["tags"]["trial.state"], run["status"]) for name, run in runs.items()} == {
        "0000 ed": ("complete", "FINISHED"),
        "0001": ("pruned", "KILLED"),
        "0002": ("interrupted", "KILLED"),
        "0003": ("infeasible", "FAILED"),
        "0004": ("failed", "FAILED"),
        "0005": ("waiting", "SCHEDULED"),
        "0006": ("complete", "FINISHED"),
        "0007": ("running", "RUNNING"),
    }
    assert runs["0000 ed"]["params"] == {"ctc_weight": "0.1", "recipe_hash": RECIPE.hash, "baseline": "ed"}
    assert runs["0003"]["params"] == {"ctc_weight": "0.5"}
    assert curve(runs["0000 ed"], "dev/wer") == [(1, 89.0), (2, 88.0), (3, 87.0)]
    assert curve(runs["0000 ed"], "test/a/wer") == [(3, 50.0)]
    assert curve(runs["0001"], "dev/wer") == [(1, 80.0), (2, 79.0)]
    assert curve(runs["0006"], "dev/wer") == [(1, 55.0), (2, 45.0)]
    assert curve(runs["0006"], "test/a/wer") == [(2, 65.0)]
    assert runs["0000 ed"]["files"] == ["recipe.yaml"]
    assert (runs["0004"]["tags"]["trial.retries"], runs["0006"]["tags"]["trial.source"]) == ("1", "elsewhere/3")
    assert runs["0003"]["tags"]["trial.reason"] == "heads 3 do not divide width 128"
    assert runs["0006"]["times"] == (1_700_000_000_000, 1_700_000_060_000)
    records = anywhere.trials()
    assert runs["0000 ed"]["times"] == tuple(round(1000 * (at or 0)) for at in (records[0].started, records[0].ended))


def test_the_end_of_a_study_names_its_best_trial(opened: Callable[[str], Ledger], file: str) -> None:
    ledger = opened(file)
    ledger.append("study_started", trials=1, concurrency=1)
    trial(ledger, 0)
    ledger.study_ended(State.COMPLETE, ledger.trials()[0])
    flush(ledger)
    study = seen(ledger)[ledger.study.name]
    best = {"study.best_trial": "0", "study.best_recipe_hash": RECIPE.hash, "study.status": "complete"}
    assert study["tags"] == best | {"study.id": ledger.manifest["id"]}
    assert study["status"] == "FINISHED"


def test_what_is_told_twice_is_kept_once(anywhere: Ledger) -> None:
    whole_study(anywhere)
    flush(anywhere)
    first = seen(anywhere)
    (anywhere.folder / delivery.CURSOR).unlink()
    assert flush(anywhere) == len(anywhere.events())
    assert seen(anywhere) == first
    # The same rows again, as after an answer that was lost behind the metrics and before the tag that counts epochs.
    client = MlflowClient(tracking_uri=anywhere.study.tracking)
    experiment = client.get_experiment_by_name(anywhere.study.name).experiment_id
    for run in client.search_runs([experiment], "tags.`trial.number` = '0'"):
        client.delete_tag(run.info.run_id, "trial.epoch")
    rebuild(anywhere)
    assert seen(anywhere) == first


def test_an_empty_mlflow_is_filled_from_the_ledger_with_the_same_runs(
    anywhere: Ledger, followed: Callable[[Ledger], Tracking], empty_file: Path, tmp_path: Path
) -> None:
    sender = followed(anywhere)
    whole_study(anywhere)
    sender.wake()
    assert sender.close(60) == 0
    first = seen(anywhere)
    shutil.copy(empty_file, tmp_path / "empty.db")
    other = anywhere.study.model_copy(update={"tracking": f"sqlite:///{tmp_path}/empty.db"})
    shutil.copytree(anywhere.folder, tmp_path / "copy")
    copied = Ledger(tmp_path / "copy", other, anywhere.base_recipe, anywhere.manifest)
    assert rebuild(copied) == len(anywhere.events())
    assert seen(copied) == first


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
        ledger.trial_ended(number, State.COMPLETE, None, {"test/a/wer": 50.0 + number})
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
    (said,) = [record.getMessage() for record in caplog.records if record.name == "study.tracking"]
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
