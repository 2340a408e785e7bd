"""A disk that is full, whoever writes to it first: one line, nothing lost, and the same command goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.faults import FOLDER, Disk, epochs, meanwhile
from chaos.records import assert_records_agree
from conftest import MINIATURE
from stub_training import DISK_FULL

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

FULL = (
    "error: the disk that holds studies/probe is full; nothing that ended is lost. Free space, then go on with: "
    "decred-study run study.yaml\n"
)
chaos = pytest.mark.chaos
WRITERS = {"the ledger": "events.jsonl", "Optuna": "optuna.db", "a worker": "trials"}
REAL = Work("model.training.loop:train", "model.training.prepare:prepare")


def onto(disk: Disk, name: str) -> None:
    """Have this part of the study on the small disk, and the rest elsewhere."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if name in ("trials", "tune"):
        (disk.folder / name).mkdir()
    (FOLDER / name).symlink_to(disk.folder / name)


def assert_stopped_and_goes_on(said: Any, disk: Disk, again: Callable[[], Any], trials: int, each: int = 20) -> None:
    assert (said.code, said.err) == (2, FULL), said
    assert "Traceback" not in said.out
    ended = {n: r for n, r in Ledger.open(FOLDER).trials.items() if r.state.final}
    assert len(ended) < trials, "the study came to its end all the same"
    disk.free()
    said = again()
    assert said.code == 0, said
    records = Ledger.open(FOLDER).trials
    assert [record.state for record in records.values()] == [TrialState.COMPLETE] * trials
    assert all(len(record.epochs) == each for record in records.values())
    assert {number: records[number] for number in ended} == ended
    assert_records_agree(FOLDER)


@pytest.mark.parametrize(
    "writer", ["the ledger", *(pytest.param(each, marks=chaos) for each in ("Optuna", "a worker"))]
)
def test_when_the_disk_is_full_for_one_writer_one_line_says_so_and_the_same_command_goes_on(
    writer: str, disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    onto(disk, WRITERS[writer])
    with meanwhile(FOLDER, (epochs(30), disk.fill)):
        said = decred_study("run", path.name)
    assert_stopped_and_goes_on(said, disk, lambda: decred_study("run", path.name), trials=3)


@chaos
@pytest.mark.parametrize("at", [1, 15, 30])
def test_when_the_disk_of_the_whole_study_fills_up_one_line_says_so_and_the_same_command_goes_on(
    at: int, disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    FOLDER.parent.mkdir()
    (disk.folder / "probe").mkdir()
    FOLDER.symlink_to(disk.folder / "probe")
    with meanwhile(FOLDER, (epochs(at), disk.fill)):
        said = decred_study("run", path.name)
    again = decred_study("run", path.name)
    assert (again.code, again.err) == (2, FULL), "on a disk that is still full"
    assert_stopped_and_goes_on(said, disk, lambda: decred_study("run", path.name), trials=3)


@chaos
def test_a_real_training_whose_checkpoint_has_no_place_goes_on_from_the_one_before(
    disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study(MINIATURE | {"training.epochs": 4}, trials=2)
    onto(disk, "trials")
    with meanwhile(FOLDER, (epochs(2), disk.fill)):
        said = decred_study("run", path.name, work=REAL)
    assert_stopped_and_goes_on(said, disk, lambda: decred_study("run", path.name, work=REAL), trials=2, each=4)


@chaos
def test_a_full_disk_under_tunes_snapshots_stops_no_study_because_nobody_reads_them(
    disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=2)
    onto(disk, "tune")
    with meanwhile(FOLDER, (epochs(10), disk.fill)):
        said = decred_study("run", path.name)
    assert said.code == 0, said
    assert "Traceback" not in said.out + said.err
    assert {record.state for record in Ledger.open(FOLDER).trials.values()} == {TrialState.COMPLETE}
    assert_records_agree(FOLDER)


@chaos
def test_a_full_disk_of_mlflow_stops_no_study_and_what_waits_is_sent_afterwards(
    disk: Disk, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=3)
    onto(disk, "mlflow.db")
    with meanwhile(FOLDER, (epochs(10), disk.fill)):
        said = decred_study("run", path.name)
    assert said.code == 0, said
    uri = f"sqlite:///{FOLDER.resolve()}/mlflow.db"
    assert f"not up to date in MLflow at {uri}; send them with: decred-study track" in said.out
    disk.free()
    said = decred_study("track", path.name, "--flush")
    assert f"runs sent to MLflow at {uri}" in said.out, said
    assert_records_agree(FOLDER)


def test_a_worker_that_meets_a_full_disk_stops_the_study_with_the_line(
    plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.seed": DISK_FULL})
    said = decred_study("run", path.name, work=Work("chaos.planted_training:until_mended", "stub_training:prepare"))
    assert (said.code, said.err) == (2, FULL), said
    assert {n: r.state for n, r in Ledger.open(FOLDER).trials.items()} == {0: TrialState.INTERRUPTED}
    Path("mended").touch()
    said = decred_study("run", path.name, work=Work("chaos.planted_training:until_mended", "stub_training:prepare"))
    assert said.code == 0, said
    assert {r.state for r in Ledger.open(FOLDER).trials.values()} == {TrialState.COMPLETE}
    assert_records_agree(FOLDER)
