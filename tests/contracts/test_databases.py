"""Optuna's records are the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from model.recipe_files import named_recipe
from study.optuna_adapter import Proposer
from study.study_file import StudyFile
from study.trial_record import State

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
    proposer.tell(0, State.COMPLETE, 78.0)
    proposer.tell(1, State.PRUNED, 77.0)

    again = Proposer(STUDY, BASE, database)
    assert again.remaining() == 1
    (left,) = again.interrupted()
    assert (left.number, left.recipe.hash) == (2, proposals[2].recipe.hash if proposals[2] else "")
    again.tell(2, State.FAILED, None)
    last = again.propose()
    assert last is not None
    assert again.propose() is None
    again.tell(last.number, State.COMPLETE, 60.0)
    trials = optuna.load_study(study_name="probe", storage=database).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert [trial.intermediate_values for trial in trials[:3]] == [{1: 79.0 - n, 2: 78.0 - n} for n in range(3)]


def test_a_seeded_search_proposes_the_same_on_every_database(database: str, tmp_path: Path) -> None:
    def values(url: str) -> list[object]:
        proposer = Proposer(STUDY, BASE, url)
        asked = [proposer.propose() for _ in range(4)]
        return [proposal.values for proposal in asked if proposal is not None]

    assert values(database) == values(f"sqlite:///{tmp_path}/other.db")
