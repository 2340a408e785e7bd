"""A disk is full, whichever process writes to it first: one line, nothing lost, and the same command continues."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos.epoch_order import assert_trained_once
from chaos.faults import FOLDER, Disk, has_epochs, inject_faults
from chaos.planted_training import CORRECTED
from chaos.records import assert_records_agree
from conftest import MINIATURE
from stub_training import DISK_FULL

from study.execution.session_events import OF_TEST_SETS
from study.ledger.events import SessionStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.runner import Work

FULL = (
    "error: the disk that holds studies/probe is full; nothing that ended is lost. Free space, then continue with: "
    "decred-study run study.yaml\n"
)
GONE = (
    "error: studies/probe cannot be used (No such file or directory); nothing that ended is lost. Make it readable and "
    "writable again, then continue with: decred-study run study.yaml\n"
)
chaos = pytest.mark.chaos
WRITERS = {"the ledger": "events", "a worker": "trials"}
REAL = Work("model.training.loop:train", "model.training.prepare:prepare")
CORRECTABLE = Work("chaos.planted_training:train_until_corrected", "stub_training:prepare")


def move_to(disk: Disk, name: str) -> None:
    """Have this part of the study on the small disk, and the rest elsewhere."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if name != "mlflow.db":
        (disk.folder / name).mkdir()
    (FOLDER / name).symlink_to(disk.folder / name)


def without_tests(record: TrialRecord) -> TrialRecord:
    """A trial as it was before its test sets were scored, when all trials had ended."""

    def keep(metrics: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if not name.startswith(OF_TEST_SETS)}

    return replace(record, metrics=keep(record.metrics), final_metrics=keep(record.final_metrics), was_decoded=False)


def assert_stopped_and_continues(
    result: Any,
    mend: Callable[[], object],
    run_again: Callable[[], Any],
    trials: int,
    epochs: int = 20,
    error: str = FULL,
) -> None:
    assert (result.code, result.err) == (2, error), result
    assert "Traceback" not in result.out
    events = Ledger.open(FOLDER).log.read()
    ended = {number: record for number, record in Ledger.open(FOLDER).trials.items() if record.state.final}
    assert len(ended) < trials, "the study came to its end all the same"
    mend()
    result = run_again()
    assert result.code == 0, result
    ledger = Ledger.open(FOLDER)
    records = ledger.trials
    assert ledger.log.read()[: len(events)] == events, "events were lost or changed"
    assert [record.state for record in records.values()] == [TrialState.COMPLETE] * trials
    assert all([report.epoch for report in record.epochs] == [*range(1, epochs + 1)] for record in records.values())
    assert {number: without_tests(records[number]) for number in ended} == ended, "but for the best one's test sets"
    assert_trained_once(ledger.log.read())
    assert_records_agree(FOLDER)


@chaos
@pytest.mark.parametrize("writer", WRITERS)
def test_when_the_disk_is_full_for_one_writer_one_line_reports_it_and_the_same_command_continues(
    writer: str, disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    move_to(disk, WRITERS[writer])
    with inject_faults(FOLDER, (has_epochs(30), disk.fill)):
        result = decred_study("run", path.name)
    assert_stopped_and_continues(result, disk.free, lambda: decred_study("run", path.name), trials=3)


@chaos
def test_when_the_events_of_a_study_go_away_one_line_reports_it_and_the_same_command_continues(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    place, away = FOLDER / "events", FOLDER / "away"
    with inject_faults(FOLDER, (has_epochs(30), lambda: place.rename(away))):
        result = decred_study("run", path.name)
    away.rename(place)  # before it nothing can be read
    assert_stopped_and_continues(result, lambda: None, lambda: decred_study("run", path.name), trials=3, error=GONE)


@chaos
@pytest.mark.parametrize("at", [1, 15, 30])
def test_when_the_disk_of_the_whole_study_fills_up_one_line_reports_it_and_the_same_command_continues(
    at: int, disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    FOLDER.parent.mkdir()
    (disk.folder / "probe").mkdir()
    FOLDER.symlink_to(disk.folder / "probe")
    with inject_faults(FOLDER, (has_epochs(at), disk.fill)):
        result = decred_study("run", path.name)
    again = decred_study("run", path.name)
    assert (again.code, again.err) == (2, FULL), "on a disk that is still full"
    sessions = [event for event in Ledger.open(FOLDER).log.read() if isinstance(event, SessionStarted)]
    assert len(sessions) == 1, "the second session left a file for which there was no space"
    assert_stopped_and_continues(result, disk.free, lambda: decred_study("run", path.name), trials=3)


@chaos
def test_a_real_training_without_space_for_its_checkpoint_continues_from_the_one_before(
    disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study(MINIATURE | {"training.epochs": 4}, trials=2)
    move_to(disk, "trials")
    with inject_faults(FOLDER, (has_epochs(2), disk.fill)):
        result = decred_study("run", path.name, work=REAL)
    run_again = functools.partial(decred_study, "run", path.name, work=REAL)
    assert_stopped_and_continues(result, disk.free, run_again, trials=2, epochs=4)


@chaos
def test_a_full_disk_under_tunes_snapshots_which_nothing_reads_stops_no_study(
    disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=2)
    move_to(disk, "tune")
    with inject_faults(FOLDER, (has_epochs(10), disk.fill)):
        result = decred_study("run", path.name)
    assert result.code == 0, result
    assert "Traceback" not in result.out + result.err
    ledger = Ledger.open(FOLDER)
    assert {record.state for record in ledger.trials.values()} == {TrialState.COMPLETE}
    assert_trained_once(ledger.log.read())
    assert_records_agree(FOLDER)


@chaos
def test_a_full_disk_of_mlflow_stops_no_study_and_its_runs_are_sent_afterwards(
    disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    move_to(disk, "mlflow.db")
    with inject_faults(FOLDER, (has_epochs(10), disk.fill)):
        result = decred_study("run", path.name)
    assert result.code == 0, result
    uri = f"sqlite:///{FOLDER.resolve()}/mlflow.db"
    # The disk may be full before MLflow's tables are made; then it is not known what the runs hold.
    state = rf"(?:are not up to date in MLflow at {uri}|may not be up to date in MLflow at {uri}, which did not answer)"
    line = rf"^(\d) runs {state}; send them with: decred-study track study.yaml --flush$"
    outdated = re.search(line, result.out, re.MULTILINE)
    assert outdated, result
    disk.free()
    result = decred_study("track", path.name, "--flush")
    assert result.out == f"{outdated[1]} runs sent to MLflow at {uri}\n", result
    assert_records_agree(FOLDER)


@chaos
def test_a_worker_that_meets_a_full_disk_stops_the_study_with_the_line(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.seed": DISK_FULL})
    result = decred_study("run", path.name, work=CORRECTABLE)
    assert (result.code, result.err) == (2, FULL), result
    assert {number: record.state for number, record in Ledger.open(FOLDER).trials.items()} == {
        0: TrialState.INTERRUPTED
    }
    Path(CORRECTED).touch()
    result = decred_study("run", path.name, work=CORRECTABLE)
    assert result.code == 0, result
    ledger = Ledger.open(FOLDER)
    assert {record.state for record in ledger.trials.values()} == {TrialState.COMPLETE}
    assert_trained_once(ledger.log.read())
    assert_records_agree(FOLDER)
