"""What a crash left between the records is made good from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from model.errors import UserError
from model.recipe.files import named_recipe
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.display.board import Board, screen
from study.display.table import table
from study.execution.recorder import Recorder, settle
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.proposer import Proposer
from study.search.space import Space
from study.tracking.tracking import Tracking, flush

BASE = named_recipe("tiny", "/speech")
STUDY = StudyFile.model_validate(
    {"name": "probe", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "trials": 2}
    | {"baselines": ["ed"]}
)


def opened(folder: Path) -> tuple[Ledger, Proposer, Tracking]:
    ledger = Ledger.create_or_open(folder, STUDY, BASE, {"id": "one"})
    return ledger, Proposer(STUDY, BASE, f"sqlite:///{folder}/optuna.db"), Tracking(ledger)


def runs(ledger: Ledger) -> dict[str, Any]:
    """The runs once everything is told."""
    flush(ledger)
    client = MlflowClient(tracking_uri=f"sqlite:///{ledger.folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("probe").experiment_id])
    return {run.data.tags["trial.number"]: run for run in found if "trial.number" in run.data.tags}


def test_a_trial_that_the_ledger_knows_as_ended_is_told_and_not_run_again(tmp_path: Path) -> None:
    ledger, proposer, tracking = opened(tmp_path)
    recorder = Recorder(ledger, proposer, tracking, Board(screen(), "probe", 3))
    ends = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED]
    for end in ends:
        proposal = proposer.propose()
        assert proposal is not None
        recorder.started(proposal)
        ledger.trial_epoch(proposal.number, 1, {"dev/wer": 41.0})
        ledger.trial_ended(proposal.number, end, "why", {"test/a/wer": 50.0})  # and then the power went

    ledger, proposer, _ = opened(tmp_path)
    assert [left.number for left in proposer.interrupted()] == [0, 1, 2]
    settle(ledger, proposer)
    assert proposer.interrupted() == []
    assert proposer.remaining() == 0
    told = {trial.number: trial for trial in proposer._trials()}
    assert [told[number].state.name for number in range(3)] == ["COMPLETE", "PRUNED", "FAIL"]
    assert told[0].value == 41.0
    assert told[1].intermediate_values == {1: 41.0}
    shown = runs(ledger)
    assert [shown[str(number)].data.tags["trial.state"] for number in range(3)] == [str(end) for end in ends]
    assert [shown[str(number)].info.status for number in range(3)] == ["FINISHED", "KILLED", "FAILED"]
    assert shown["0"].data.metrics == {"dev/wer": 41.0, "test/a/wer": 50.0}
    assert shown["0"].data.params["recipe_hash"] == ledger.trials()[0].recipe_hash


def test_a_trial_that_was_only_interrupted_still_goes_on(tmp_path: Path) -> None:
    ledger, proposer, tracking = opened(tmp_path)
    recorder = Recorder(ledger, proposer, tracking, Board(screen(), "probe", 3))
    proposal = proposer.propose()
    assert proposal is not None
    recorder.started(proposal)
    recorder.interrupt()
    ledger, proposer, _ = opened(tmp_path)
    settle(ledger, proposer)
    assert [left.number for left in proposer.interrupted()] == [0]


def test_an_infeasible_point_is_recorded_everywhere_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, proposer, tracking = opened(tmp_path)
    recorder = Recorder(ledger, proposer, tracking, Board(screen(), "probe", 3))
    assert proposer.propose(recorder.infeasible) is not None  # the baseline

    def refuse(space: Space, point: Any) -> Recipe:
        raise UserError("search: heads 3 do not divide width 128")

    with monkeypatch.context() as patched:
        patched.setattr(Space, "recipe", refuse)
        assert proposer.propose(recorder.infeasible) is None
    records = ledger.trials()
    assert [records[number].state for number in (1, 2)] == [TrialState.INFEASIBLE] * 2
    assert records[1].reason == "search: heads 3 do not divide width 128"
    assert 0.1 <= records[1].values["ctc_weight"] <= 0.6
    run = runs(ledger)["1"]
    assert run.data.tags["trial.state"] == "infeasible"
    assert run.data.tags["trial.reason"] == records[1].reason
    assert run.info.status == "FAILED"
    assert run.data.params["ctc_weight"] == str(records[1].values["ctc_weight"])
    screen().print(table(records.values(), STUDY))
    said = capsys.readouterr().out
    assert "trial 0001 infeasible: search: heads 3 do not divide width 128" in said
    assert "0001" in said.rsplit("study probe", 1)[1]
