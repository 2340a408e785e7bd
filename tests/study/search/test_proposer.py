"""Proposals come once each, in order, and what becomes of them reaches Optuna as it was."""

from __future__ import annotations

import functools
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
import optuna.trial
import pytest
from optuna.trial import FrozenTrial

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from study.config.baselines import baseline
from study.config.study_file import StudyFile
from study.ledger.records import TrialState
from study.search.proposer import Proposal, Proposer

TINY = named_recipe("tiny", "speech")
SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "startup_trials": 3}


def study(trials: int = 4, baselines: tuple[str, ...] = ("ed", "decred-paper"), **search: Any) -> StudyFile:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": baselines, "search": SEARCH | search}
    return StudyFile.model_validate(content)


def url(folder: Path) -> str:
    path = folder / "optuna.db"
    if folder.is_dir() and not path.exists():
        path.write_bytes(empty_database())
    return f"sqlite:///{path}"


@functools.cache
def empty_database() -> bytes:
    """Optuna's tables, made once because that takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        Proposer(study(), TINY, f"sqlite:///{folder}/optuna.db")
        optuna.delete_study(study_name="s", storage=f"sqlite:///{folder}/optuna.db")
        return (Path(folder) / "optuna.db").read_bytes()


def stored(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="s", storage=url(folder)).trials


def all_of(proposer: Proposer) -> list[Proposal]:
    proposals = []
    while (proposal := proposer.propose()) is not None:
        proposals.append(proposal)
        proposer.tell(proposal.number, TrialState.COMPLETE, loss(proposal))
    return proposals


def loss(proposal: Proposal) -> float:
    """Smallest at a CTC weight of 0.2 with one auxiliary classifier."""
    recipe = proposal.recipe
    return abs(recipe.loss.ctc_weight - 0.2) + abs(len(recipe.loss.auxiliary.placement) - 1)


def test_baselines_come_first_and_once_then_as_many_sampled_trials_as_the_study_says(tmp_path: Path) -> None:
    proposer = Proposer(study(), TINY, url(tmp_path))
    assert proposer.remaining() == 6
    proposals = all_of(proposer)
    assert [(each.number, each.baseline) for each in proposals] == [
        (0, "ed"),
        (1, "decred-paper"),
        *((number, None) for number in range(2, 6)),
    ]
    assert proposals[1].recipe == baseline("decred-paper", TINY)
    assert proposals[1].values["auxiliary.weights"] == "0.60"
    assert proposer.remaining() == 0
    assert [trial.number for trial in stored(tmp_path)] == list(range(6))


def test_optuna_holds_only_the_active_parameters_of_baselines_and_samples(tmp_path: Path) -> None:
    all_of(Proposer(study(), TINY, url(tmp_path)))
    ed, paper, *sampled = stored(tmp_path)
    assert ed.params == {"ctc_weight": 0.3, "auxiliary.count": 0}
    assert paper.params == {
        "ctc_weight": 0.3,
        "auxiliary.count": 1,
        "auxiliary.placement.1": "2",
        "auxiliary.final_weight": 0.4,
    }
    for trial in sampled:
        count = trial.params["auxiliary.count"]
        assert sum("share" in name for name in trial.params) == max(0, count - 1)


def test_a_baseline_outside_the_space_runs_without_parameters(tmp_path: Path) -> None:
    narrow = study(trials=3, ctc_weight={"uniform": [0.5, 0.6]}, startup_trials=1)
    proposals = all_of(Proposer(narrow, TINY, url(tmp_path)))
    assert len(proposals) == 5
    assert proposals[0].recipe.loss.ctc_weight == 0.3
    assert [trial.params for trial in stored(tmp_path)[:2]] == [{}, {}]


@pytest.mark.parametrize(
    ("state", "value", "told", "kept"),
    [
        (TrialState.COMPLETE, 12.5, optuna.trial.TrialState.COMPLETE, 12.5),
        (TrialState.COMPLETE, math.nan, optuna.trial.TrialState.FAIL, None),
        (TrialState.COMPLETE, None, optuna.trial.TrialState.FAIL, None),
        (TrialState.PRUNED, 12.5, optuna.trial.TrialState.PRUNED, 40.0),
        (TrialState.FAILED, None, optuna.trial.TrialState.FAIL, None),
        (TrialState.INFEASIBLE, None, optuna.trial.TrialState.FAIL, None),
        (TrialState.INTERRUPTED, None, optuna.trial.TrialState.RUNNING, None),
    ],
)
def test_each_state_reaches_optuna_as_its_own(
    tmp_path: Path, state: TrialState, value: float | None, told: optuna.trial.TrialState, kept: float | None
) -> None:
    proposer = Proposer(study(), TINY, url(tmp_path))
    proposal = proposer.propose()
    assert proposal is not None
    proposer.report(proposal.number, 1, 60.0)
    proposer.report(proposal.number, 2, 40.0)
    proposer.tell(proposal.number, state, value)
    (trial,) = stored(tmp_path)
    assert (trial.state, trial.value) == (told, kept)
    assert trial.intermediate_values == {1: 60.0, 2: 40.0}


def test_a_state_that_is_no_end_is_refused(tmp_path: Path) -> None:
    proposer = Proposer(study(), TINY, url(tmp_path))
    proposer.propose()
    with pytest.raises(ValueError, match="trial 0 was told running, but must have ended"):
        proposer.tell(0, TrialState.RUNNING)


def test_telling_or_reporting_an_ended_trial_again_changes_nothing(tmp_path: Path) -> None:
    proposer = Proposer(study(), TINY, url(tmp_path))
    proposer.propose()
    proposer.tell(0, TrialState.COMPLETE, 5.0)
    proposer.tell(0, TrialState.FAILED)
    proposer.report(0, 9, 1.0)
    (trial,) = stored(tmp_path)
    assert (trial.state, trial.value, trial.intermediate_values) == (optuna.trial.TrialState.COMPLETE, 5.0, {})


def test_running_trials_go_on_under_their_number_with_their_recipe(tmp_path: Path) -> None:
    first = Proposer(study(), TINY, url(tmp_path))
    proposals = [first.propose() for _ in range(4)]
    first.tell(1, TrialState.COMPLETE, 3.0)
    again = Proposer(study(), TINY, url(tmp_path))
    assert again.interrupted() == [proposals[0], proposals[2], proposals[3]]
    assert again.remaining() == 2
    following = again.propose()
    assert following is not None
    assert following.number == 4


def test_an_interrupted_trial_follows_a_corpus_that_moved(tmp_path: Path) -> None:
    Proposer(study(), TINY, url(tmp_path)).propose()
    moved = with_values(TINY, {"data.corpus": "/elsewhere"})
    (trial,) = Proposer(study(), moved, url(tmp_path)).interrupted()
    assert trial.recipe == baseline("ed", moved)


def test_what_a_crash_left_undecided_is_decided_under_its_number_as_it_would_have_been(tmp_path: Path) -> None:
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    whole.mkdir()
    crashed.mkdir()
    recipes = [each.recipe for each in all_of(Proposer(study(baselines=()), TINY, url(whole)))]
    first = Proposer(study(baselines=()), TINY, url(crashed))
    optuna.load_study(study_name="s", storage=url(crashed)).ask()  # the moment before the recipe is kept
    again = Proposer(study(baselines=()), TINY, url(crashed))
    assert (again.interrupted(), again.remaining()) == ([], 4)
    proposals = all_of(again)
    assert [each.number for each in proposals] == [0, 1, 2, 3]
    assert [each.recipe for each in proposals] == recipes
    assert first.remaining() == 0


def test_what_a_crash_left_half_suggested_keeps_what_was_suggested(tmp_path: Path) -> None:
    Proposer(study(baselines=()), TINY, url(tmp_path))
    value = optuna.load_study(study_name="s", storage=url(tmp_path)).ask().suggest_float("ctc_weight", 0.1, 0.6)
    proposal = Proposer(study(baselines=()), TINY, url(tmp_path)).propose()
    assert proposal is not None
    assert (proposal.number, proposal.values["ctc_weight"]) == (0, pytest.approx(value, abs=0.001))


def test_an_undecided_trial_that_the_ledger_knows_as_ended_is_not_proposed(tmp_path: Path) -> None:
    Proposer(study(baselines=()), TINY, url(tmp_path))
    optuna.load_study(study_name="s", storage=url(tmp_path)).ask()
    again = Proposer(study(baselines=()), TINY, url(tmp_path))
    assert again.remaining() == 4
    again.tell(0, TrialState.INFEASIBLE)
    assert again.remaining() == 3
    assert [each.number for each in all_of(again)] == [1, 2, 3]


def test_a_baseline_whose_proposal_was_lost_in_a_crash_is_tried_once(tmp_path: Path) -> None:
    Proposer(study(), TINY, url(tmp_path))
    crashed = optuna.load_study(study_name="s", storage=url(tmp_path))
    crashed.enqueue_trial({"ctc_weight": 0.3, "auxiliary.count": 0}, user_attrs={"baseline": "ed"})
    again = Proposer(study(), TINY, url(tmp_path))
    assert [each.baseline for each in all_of(again)] == ["ed", "decred-paper", None, None, None, None]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_study_proposes_what_it_would_have(tmp_path: Path, sampler: str) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    recipes = [each.recipe for each in all_of(Proposer(study(5, sampler=sampler), TINY, url(whole)))]
    first = all_of(Proposer(study(2, sampler=sampler), TINY, url(halves)))
    rest = all_of(Proposer(study(5, sampler=sampler), TINY, url(halves)))
    assert [each.recipe for each in first + rest] == recipes
    assert len({recipe.hash for recipe in recipes}) == len(recipes)


def test_another_seed_draws_other_recipes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    recipes = [
        {each.recipe.hash for each in all_of(Proposer(study(2, (), seed=seed), TINY, url(folder)))}
        for seed, folder in enumerate((one, two))
    ]
    assert not recipes[0] & recipes[1]


def test_the_grid_is_tried_once_each_over_restarts_and_then_ends(tmp_path: Path) -> None:
    small = {"sampler": "grid", "grid_points": 2, "auxiliary": {"count": [0, 1], "layers": [1, 2]}}
    first = Proposer(study(5, (), **small), TINY, url(tmp_path))
    assert first.remaining() == 5
    tried = all_of(first)
    again = Proposer(study(100, (), **small), TINY, url(tmp_path))
    # per CTC weight: nothing, or 2 layers x 2 final weights
    assert again.remaining() == 2 * (1 + 2 * 2) - 5
    tried += all_of(again)
    assert len({each.recipe.hash for each in tried}) == len(tried) == 10


def test_tpe_finds_a_planted_optimum_better_than_chance(tmp_path: Path) -> None:
    proposals = all_of(Proposer(study(14), TINY, url(tmp_path)))
    early, late = proposals[2:6], proposals[-4:]
    assert sum(map(loss, late)) / len(late) < sum(map(loss, early)) / len(early)


def test_optuna_stays_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        all_of(Proposer(study(3), TINY, url(tmp_path)))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_storage_that_cannot_be_opened_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Optuna's storage sqlite:.*gone.* cannot be opened .*correct the URL"):
        Proposer(study(), TINY, url(tmp_path / "gone"))
