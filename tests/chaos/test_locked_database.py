"""Another process holds a study's database: the study waits for it, and after its patience says who it may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.faults import FOLDER, Locker, epochs, gaps, meanwhile
from chaos.records import assert_records_agree

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search import optuna_store


@pytest.fixture
def locker(tmp_path: Path) -> Iterator[Locker]:
    """Locks Optuna's database, once it is there."""
    other = Locker(tmp_path / FOLDER / "optuna.db")
    yield other
    other.free()


def test_a_study_waits_for_another_process_that_has_locked_optunas_database(
    locker: Locker, plain_study: Callable[..., Path], decred_study: Callable[..., Any]
) -> None:
    path = plain_study({"training.epochs": 20}, trials=2)
    with meanwhile(FOLDER, (epochs(5), lambda: locker.hold(3.0))):
        said = decred_study("run", path.name)
    assert said.code == 0, said
    ledger = Ledger.open(FOLDER)
    assert max(gaps(ledger.events())) > 2.5, "the lock was not in the way"
    assert [(record.state, len(record.epochs)) for record in ledger.trials.values()] == [(TrialState.COMPLETE, 20)] * 2
    assert_records_agree(FOLDER)


@pytest.mark.parametrize("at", [5, pytest.param(20, marks=pytest.mark.chaos)])
def test_a_lock_that_lasts_ends_the_study_with_the_file_and_the_process_and_the_same_command_goes_on(
    at: int,
    locker: Locker,
    plain_study: Callable[..., Path],
    decred_study: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(optuna_store, "LOCK_PATIENCE", 1.0)
    path = plain_study({"training.epochs": 20}, trials=2)
    with meanwhile(FOLDER, (epochs(at), locker.lock)):
        said = decred_study("run", path.name)
    assert said.code == 2, said
    assert re.fullmatch(
        rf"error: Optuna's database \S+/{FOLDER}/optuna.db was locked for 1 s \(.*process {locker.pid}, python\S*, .*"
        r"may hold it\); end that process or wait for it, then run the study again: it goes on\n",
        said.err,
    ), said.err
    locker.free()
    before = Ledger.open(FOLDER).trials
    assert {record.state for record in before.values()} <= {TrialState.COMPLETE, TrialState.INTERRUPTED}
    said = decred_study("run", path.name)
    assert said.code == 0, said
    trials = Ledger.open(FOLDER).trials
    assert [(record.state, len(record.epochs)) for record in trials.values()] == [(TrialState.COMPLETE, 20)] * 2
    assert_records_agree(FOLDER)
