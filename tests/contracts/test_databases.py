"""Optuna's records are the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from study.execution.recorder import settle

from model.errors import UserError
from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.proposer import Proposer

BASE = named_recipe("tiny", "/speech")
STUDY = StudyFile.model_validate(
    {"name": "probe", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "trials": 3}
    | {"baselines": ["ed"]}
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/optuna.db"
    return str(request.getfixturevalue("postgresql"))


def test_trials_are_asked_for_reported_and_told_and_found_again(database: str) -> None:
    proposer = Proposer(STUDY, BASE, database)
    proposals = [proposer.propose() for _ in range(3)]
    numbers = [proposal.number for proposal in proposals if proposal is not None]
    assert numbers == [0, 1, 2]
    for epoch in (1, 2):
        for number in numbers:
            proposer.report(number, epoch, 80.0 - epoch - number)
    proposer.tell(0, TrialState.COMPLETE, 78.0)
    proposer.tell(1, TrialState.PRUNED, 77.0)

    again = Proposer(STUDY, BASE, database)
    assert again.remaining() == 1
    (left,) = again.interrupted()
    assert (left.number, left.recipe.hash) == (2, proposals[2].recipe.hash if proposals[2] else "")
    again.tell(2, TrialState.FAILED, None)
    last = again.propose()
    assert last is not None
    assert again.propose() is None
    again.tell(last.number, TrialState.COMPLETE, 60.0)
    trials = optuna.load_study(study_name="probe", storage=database).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert [trial.intermediate_values for trial in trials[:3]] == [{1: 79.0 - n, 2: 78.0 - n} for n in range(3)]


def test_a_seeded_search_proposes_the_same_on_every_database(database: str, tmp_path: Path) -> None:
    def values(url: str) -> list[object]:
        proposer = Proposer(STUDY, BASE, url)
        asked = [proposer.propose() for _ in range(4)]
        return [proposal.values for proposal in asked if proposal is not None]

    assert values(database) == values(f"sqlite:///{tmp_path}/other.db")


def test_a_study_goes_on_in_another_database_under_the_same_numbers(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    ledger = Ledger.create_or_open(tmp_path, STUDY, BASE, {"id": "one"})
    whole = Proposer(STUDY, BASE, f"sqlite:///{tmp_path}/whole.db")
    expected = [proposal.values for _ in range(4) if (proposal := whole.propose())]
    begun, databases = [], [f"sqlite:///{tmp_path}/optuna.db", new_database(), new_database()]
    for url in databases:
        proposer = Proposer(STUDY, BASE, url, "one")
        assert settle(ledger, proposer) == len(begun)
        assert [left.number for left in proposer.interrupted()] == list(range(1, len(begun)))
        proposal = proposer.propose()
        assert proposal is not None
        ledger.trial_started(proposal.number, proposal.recipe, proposal.values, proposal.baseline, proposal.point)
        if proposal.baseline:
            ledger.trial_epoch(proposal.number, 1, {"dev/wer": 41.0})
            ledger.trial_ended(proposal.number, TrialState.COMPLETE)
            settle(ledger, proposer)
        begun.append(proposal.values)
    assert begun == expected[:3]
    trials = optuna.load_study(study_name="probe", storage=databases[-1]).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "RUNNING", "RUNNING"]
    assert (trials[0].value, trials[0].intermediate_values) == (41.0, {1: 41.0})
    with pytest.raises(
        UserError, match=r"does not belong to this study's ledger \(it has 2 trials, and the ledger has trial 0002"
    ):
        settle(ledger, Proposer(STUDY, BASE, databases[1], "one"))
