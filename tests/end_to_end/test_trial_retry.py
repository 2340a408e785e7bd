"""A trial that failed is reopened by the command, and the next run continues it from its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import stub_training
from chaos.records import assert_records_agree
from typer.testing import CliRunner

from study.cli.main import app
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study

FOLDER = Path("studies/probe")


def test_a_failed_trial_is_reopened_and_continues_from_its_checkpoint(
    ray_here: None, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "STUB_DEATHS", "1")
    recipe = {"base": "tiny", "set": {"training.epochs": 4, "training.seed": stub_training.DIES_ONCE}}
    path = study_in(trials=0, recipe=recipe, failures={"retries": 0}, early_stopping={"rule": "none"})
    assert run_study(path, work=stub) == 1, "no trial completed"
    assert Ledger.open(FOLDER).trials[0].state is TrialState.FAILED
    done = CliRunner().invoke(app, ["trial", str(path), "0", "retry"])
    assert (done.exit_code, done.output) == (
        0,
        f"trial 0000 continues after epoch 1 with: decred-study run {path}\n",
    )
    assert_reopened_run_is_not_up_to_date()
    assert run_study(path, work=stub) == 0
    trial = Ledger.open(FOLDER).trials[0]
    assert (trial.state, [report.epoch for report in trial.epochs]) == (TrialState.COMPLETE, [1, 2, 3, 4])
    assert_records_agree(FOLDER)


def assert_reopened_run_is_not_up_to_date() -> None:
    """MLflow's run is still that of a failed trial: the next session continues it."""
    from study.tracking.flush import count_outdated

    assert count_outdated(Ledger.open(FOLDER)) >= 1
