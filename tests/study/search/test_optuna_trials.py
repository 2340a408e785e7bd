"""A study's trials as trials of Optuna's, for the sampler and in an exported study."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from ledger_events import end_trial, report_epoch
from planted_search import search_planted
from planted_surfaces import Place

from model.errors import UserError
from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.events import EpochReport, TrialEnded, TrialPaused, TrialState
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.optuna_trials import TRAINABLE, SamplerTrials, convert_record, export_database, is_untrainable
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.search.space import Space

TINY = named_recipe("tiny", "speech")
SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "startup_trials": 3}
STUDY = StudyFile.model_validate({"name": "s", "corpus": "speech", "trials": 9, "baselines": ["ed"], "search": SEARCH})
POINT: dict[str, Any] = {
    "ctc_weight": 0.25,
    "auxiliary.count": 1,
    "auxiliary.placement.1": "2",
    "auxiliary.final_weight": 0.5,
}
TWO_EPOCHS = (EpochReport(epoch=1, metrics={"dev/wer": 60.0}), EpochReport(epoch=2, metrics={"dev/wer": 40.0}))
OPTUNA = optuna.trial.TrialState


@pytest.fixture
def space() -> Space:
    return Space(STUDY.search, TINY)


@pytest.mark.parametrize(
    ("state", "final", "expected", "value"),
    [
        (TrialState.COMPLETE, 12.5, OPTUNA.COMPLETE, 12.5),
        (TrialState.COMPLETE, math.nan, OPTUNA.FAIL, None),
        (TrialState.COMPLETE, None, OPTUNA.FAIL, None),
        (TrialState.PRUNED, 12.5, OPTUNA.PRUNED, 40.0),
        (TrialState.FAILED, 12.5, OPTUNA.FAIL, None),
        (TrialState.INFEASIBLE, None, OPTUNA.FAIL, None),
        (TrialState.INTERRUPTED, 12.5, OPTUNA.RUNNING, None),
        (TrialState.RUNNING, 12.5, OPTUNA.RUNNING, None),
        (TrialState.WAITING, 12.5, OPTUNA.RUNNING, None),
    ],
)
def test_every_state_has_the_documented_state_of_optuna(
    space: Space, state: TrialState, final: float | None, expected: optuna.trial.TrialState, value: float | None
) -> None:
    metrics = {} if final is None else {"dev/wer": final}
    record = TrialRecord(3, state, point=POINT, epochs=TWO_EPOCHS, metrics=metrics, baseline="ed", reason="so")
    trial = convert_record(record, space, "dev/wer", 3)
    assert (trial.state, trial.value, trial.number) == (expected, value, 3)
    assert trial.intermediate_values == {1: 60.0, 2: 40.0}
    assert trial.params == POINT
    assert trial.user_attrs == {"state": state.value, "baseline": "ed", "reason": "so"}


def test_a_paused_trial_with_a_value_is_pruned_to_the_sampler(space: Space) -> None:
    records = {
        0: TrialRecord(0, TrialState.WAITING, point=POINT, epochs=TWO_EPOCHS),
        1: TrialRecord(1, TrialState.WAITING, point=POINT),
        2: TrialRecord(2, TrialState.RUNNING, point=POINT, epochs=TWO_EPOCHS),
    }
    converted = SamplerTrials(space, "dev/wer", lambda record: {}).update(records)
    assert [trial.state for trial in converted] == [OPTUNA.PRUNED, OPTUNA.RUNNING, OPTUNA.RUNNING]
    assert [trial.number for trial in converted] == [1, 2, 3], "0 is the number of the new trial"


def test_a_record_that_did_not_change_is_not_converted_again(space: Space) -> None:
    trials = SamplerTrials(space, "dev/wer", lambda record: {})
    records = {0: TrialRecord(0, point=POINT), 1: TrialRecord(1, point=POINT)}
    first = trials.update(records)
    records[1] = TrialRecord(1, TrialState.FAILED, point=POINT)
    second = trials.update(records)
    assert second[0] is first[0]
    assert (first[1].state, second[1].state) == (OPTUNA.RUNNING, OPTUNA.FAIL)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A study with a trial in every state."""
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    proposer = Proposer(STUDY, TINY)
    for number in range(7):
        proposal = proposer.propose(ledger.trials)
        assert isinstance(proposal, Proposal)
        ledger.start_trial(number, proposal.recipe, proposal.values, proposal.baseline, proposal.point)
        for epoch in (1, 2):
            report_epoch(ledger, number, epoch, {"dev/wer": 50.0 - number - epoch})
    for number, state in enumerate((TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE)):
        end_trial(ledger, number, state)
    report_epoch(ledger, 4, 3, {"dev/wer": math.nan})
    end_trial(ledger, 4, TrialState.COMPLETE)
    ledger.append(TrialPaused(number=5, epoch=2))
    ledger.append(TrialEnded(number=6, state=TrialState.INTERRUPTED))
    return ledger


def test_an_exported_study_is_an_ordinary_optuna_study(ledger: Ledger, tmp_path: Path) -> None:
    assert export_database(ledger, tmp_path / "study.db") == 7
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    names = ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL", "RUNNING", "RUNNING"]
    assert [trial.state.name for trial in study.trials] == names
    assert [trial.number for trial in study.trials] == list(range(7))
    for trial, record in zip(study.trials, ledger.trials.values(), strict=True):
        assert trial.params == record.point
        assert trial.intermediate_values == pytest.approx(record.curve("dev/wer"), nan_ok=True)
        assert trial.user_attrs["recipe_hash"] == record.recipe_hash
        assert set(trial.distributions) == set(record.point or {})
        assert trial.datetime_start == datetime.fromtimestamp(record.started or 0.0)
        if trial.state.is_finished():
            assert trial.datetime_complete == datetime.fromtimestamp(record.ended or 0.0)
    assert study.best_trial.number == 0
    assert study.best_value == 48.0
    assert study.trials[0].distributions["ctc_weight"] == optuna.distributions.FloatDistribution(0.1, 0.6)
    assert len(study.trials_dataframe()) == 7


def test_an_existing_file_is_not_overwritten(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("mine")
    with pytest.raises(UserError, match=r"study.db exists already; give another file, or remove it"):
        export_database(ledger, tmp_path / "study.db")
    assert (tmp_path / "study.db").read_text() == "mine"


def test_a_path_that_cannot_be_written_is_reported(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone/study.db cannot be written \(.*\); give a path that can be written"):
        export_database(ledger, tmp_path / "gone" / "study.db")


def test_a_study_without_trials_is_exported_as_an_empty_one(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    assert export_database(ledger, tmp_path / "study.db") == 0
    assert optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db").trials == []
    assert dict(ledger.trials) == dict(Trials())


@pytest.mark.parametrize(
    ("state", "metrics", "reason", "expected"),
    [
        (TrialState.INFEASIBLE, {}, "does not fit into memory", True),
        (TrialState.COMPLETE, {"dev/wer": math.nan}, None, True),
        (TrialState.FAILED, {"dev/wer": math.inf}, "dev/wer is inf at epoch 1", True),
        (TrialState.FAILED, {}, "NonFiniteLossError: the loss is nan", True),
        (TrialState.FAILED, {}, "RuntimeError: the machine is gone", False),
        (TrialState.COMPLETE, {"dev/wer": 12.0}, None, False),
        (TrialState.RUNNING, {}, None, False),
    ],
)
def test_only_trials_whose_own_point_cannot_be_trained_break_the_constraint(
    space: Space, state: TrialState, metrics: dict[str, float], reason: str | None, expected: bool
) -> None:
    record = TrialRecord(0, state, point=POINT, metrics=metrics, reason=reason)
    assert is_untrainable(record, "dev/wer") is expected
    (trial,) = SamplerTrials(space, "dev/wer", lambda _: {}).update({0: record})
    assert (TRAINABLE in trial.constraints) is expected


def test_tpe_avoids_points_that_cannot_be_trained() -> None:
    """The lowest WER is at the highest rates, and beyond half of their range the loss is not finite."""

    def edge(place: Place) -> float:
        return 12.0 - 2.0 * place.rate if place.rate < 0.5 else math.nan

    searches = [search_planted(edge, seed, 25, noise=0.1, question="none", sampler="tpe") for seed in range(4)]
    beyond = [sum(math.isnan(search.true[number]) for number in range(10, 25)) for search in searches]
    assert sum(beyond) < 0.4 * 4 * 15, "random sampling has half of them beyond"
