"""While trials wait at a rung, the sampler learns from what they have shown, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna.trial
import pytest

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.records import TrialState
from study.search.proposal import Proposal
from study.search.proposer import Proposer

TINY = named_recipe("tiny", "speech")
SPACE = {"ctc_weight": {"uniform": [0.0, 1.0]}, "auxiliary": {"count": [0, 2]}, "startup_trials": 4}


def proposer(url: str = "sqlite://", trials: int = 12, baselines: tuple[str, ...] = (), **search: Any) -> Proposer:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": baselines, "search": SPACE | search}
    return Proposer(StudyFile.model_validate(content), TINY, url)


def paused(proposer: Proposer, trials: int) -> list[Proposal]:
    """That many trials, all waiting at the first rung; the best CTC weight is 0.2."""
    proposals = []
    for _ in range(trials):
        proposal = proposer.propose(paused=range(len(proposals)))
        assert proposal is not None
        proposer.report(proposal.number, 1, loss(proposal))
        proposals.append(proposal)
    return proposals


def loss(proposal: Proposal) -> float:
    return abs(proposal.recipe.loss.ctc_weight - 0.2)


def test_tpe_learns_from_trials_that_wait_as_from_those_that_were_stopped() -> None:
    waiting, stopped = proposer(seed=3), proposer(seed=3)
    proposals = paused(waiting, 12)
    for _ in range(12):
        proposal = stopped.propose()
        assert proposal is not None
        stopped.report(proposal.number, 1, loss(proposal))
        stopped.tell(proposal.number, TrialState.PRUNED)
    assert [trial.params for trial in waiting._trials()] == [trial.params for trial in stopped._trials()]
    early, late = proposals[:4], proposals[-4:]
    assert sum(map(loss, late)) < sum(map(loss, early))


def test_waiting_trials_stay_as_they_are_in_optuna() -> None:
    study = proposer()
    paused(study, 6)
    trials = study._trials()
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.RUNNING}
    assert study.remaining() == 6
    study.report(0, 3, 0.1)
    study.tell(0, TrialState.COMPLETE, 0.1)
    assert study._trials()[0].value == 0.1


def test_baselines_come_before_anything_is_learned_from_waiting_trials() -> None:
    study = proposer(baselines=("ed", "decred-paper"))
    assert [each.baseline for each in paused(study, 4)] == ["ed", "decred-paper", None, None]


@pytest.mark.parametrize("search", [{"sampler": "random"}, {"sampler": "grid", "grid_points": 2}])
def test_samplers_that_learn_nothing_propose_the_same_whether_trials_wait_or_not(search: dict[str, Any]) -> None:
    one, other = proposer(**search), proposer(**search)
    recipes = [each.recipe for each in paused(one, 5)]
    assert [proposal.recipe for _ in range(5) if (proposal := other.propose())] == recipes


def test_a_restart_with_waiting_trials_proposes_what_it_would_have(tmp_path: Path) -> None:
    whole = paused(proposer(), 8)
    url = f"sqlite:///{tmp_path}/optuna.db"
    paused(proposer(url), 6)
    again = proposer(url)
    assert again.interrupted() == whole[:6]
    following = again.propose(paused=range(6))
    assert following == whole[6]


def test_a_waiting_trial_that_has_shown_nothing_is_a_running_one() -> None:
    one, other = proposer(), proposer()
    for study in (one, other):
        for _ in range(5):
            study.propose()
    assert one.propose(paused=[0, 1, 2]) == other.propose()
