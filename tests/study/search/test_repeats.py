"""A point that was tried before, in this study or another, is trained with another seed."""

from __future__ import annotations

from typing import Any

import pytest

from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.baselines import make_baseline
from study.config.study_file import StudyFile
from study.ledger.events import TrialEnded, TrialImported, TrialStarted, TrialState
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.proposal import Proposal
from study.search.proposer import Proposer

TINY = named_recipe("tiny", "speech")
RATE = {"optimiser.learning_rate": {"log_uniform": [0.001, 0.004]}}
TWO_POINTS = {"recipe": {"data.speeds": {"choice": [[1.0], [0.9, 1.1]]}}}


def make_proposer(trials: int = 4, baselines: tuple[str, ...] = (), base: Recipe = TINY, **search: Any) -> Proposer:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": baselines, "search": search}
    return Proposer(StudyFile.model_validate(content), base)


def run_all(
    proposer: Proposer, trials: Trials | None = None, state: TrialState = TrialState.COMPLETE
) -> list[Proposal]:
    """All proposals, each ended in `state` before the next."""
    trials, proposals = Trials() if trials is None else trials, []
    while (proposal := proposer.propose(trials)) is not None:
        assert isinstance(proposal, Proposal)
        number, recipe = proposal.number, proposal.recipe
        trials.apply(
            TrialStarted(number=number, recipe_hash=recipe.hash, point=proposal.point, baseline=proposal.baseline)
        )
        trials.apply(TrialEnded(number=number, state=state, metrics={"dev/wer": 1.0}))
        proposals.append(proposal)
    return proposals


def adopt(proposer: Proposer, trials: Trials, recipe: Recipe, baseline: str | None = None) -> str | None:
    """Import a complete trial of another study; the reason if it does not fit this one."""
    record = TrialRecord(7, TrialState.COMPLETE, baseline=baseline)
    point = proposer.locate(recipe, record, trials)
    if isinstance(point, str):
        return point
    number = trials.next_number
    trials.apply(
        TrialImported(
            number=number,
            source="old/7",
            recipe_hash=recipe.hash,
            point=point,
            baseline=baseline,
            state=TrialState.COMPLETE,
            metrics={"dev/wer": 40.0},
        )
    )
    return None


def rate(value: float, **values: Any) -> Recipe:
    return with_values(TINY, {"optimiser.learning_rate": value, **values})


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INTERRUPTED])
def test_a_point_sampled_again_is_trained_with_the_next_seed_whatever_state_its_trial_ended_in(
    state: TrialState,
) -> None:
    base = with_values(TINY, {"training.seed": 5})
    proposals = run_all(make_proposer(7, base=base, **TWO_POINTS), state=state)
    assert len({proposal.recipe.hash for proposal in proposals}) == 7
    for speeds in ((1.0,), (0.9, 1.1)):
        seeds = [proposal.recipe.training.seed for proposal in proposals if proposal.recipe.data.speeds == speeds]
        assert seeds == list(range(5, 5 + len(seeds)))
    for proposal in proposals:
        assert proposal.values.get("training.seed", 5) == proposal.recipe.training.seed


def test_a_sampled_point_of_a_baseline_is_a_repeat() -> None:
    (first, *sampled) = run_all(make_proposer(4, ("ed",), **TWO_POINTS))
    same = [proposal for proposal in sampled if proposal.recipe.data.speeds == first.recipe.data.speeds]
    assert [proposal.recipe.training.seed for proposal in same] == list(range(1, len(same) + 1))


def test_without_repeat_seed_a_point_is_trained_again_with_the_same_seed() -> None:
    proposals = run_all(make_proposer(4, repeat_seed=False, **TWO_POINTS))
    assert {proposal.recipe.training.seed for proposal in proposals} == {0}


def test_a_searched_seed_is_not_replaced() -> None:
    proposals = run_all(make_proposer(5, recipe={"training.seed": {"choice": [1, 2]}}))
    assert {proposal.recipe.training.seed for proposal in proposals} <= {1, 2}


def test_a_trial_of_another_study_counts_towards_the_budget() -> None:
    proposer, trials = make_proposer(3, recipe=RATE), Trials()
    assert adopt(proposer, trials, rate(0.002, **{"data.corpus": "elsewhere", "name": "other"})) is None
    assert adopt(proposer, trials, rate(0.003)) is None
    assert [record.point for record in trials.values()] == [{"optimiser.learning_rate": r} for r in (0.002, 0.003)]
    assert proposer.count_remaining(trials) == 1
    (last,) = run_all(proposer, trials)
    assert last.number == 2


def test_an_imported_recipe_sampled_again_is_a_repeat() -> None:
    proposer, trials = make_proposer(3, **TWO_POINTS), Trials()
    for speeds in ([1.0], [0.9, 1.1]):
        adopt(proposer, trials, with_values(TINY, {"data.speeds": speeds}))
    (last,) = run_all(proposer, trials)
    assert last.recipe.training.seed == 1


def test_a_repeat_of_another_study_has_the_point_that_it_repeats() -> None:
    repeat = rate(0.002, **{"training.seed": 3})
    assert adopt(make_proposer(recipe=RATE), Trials(), repeat) is None
    assert adopt(make_proposer(recipe=RATE, repeat_seed=False), Trials(), repeat) == (
        "training.seed is 3, but 0 in this study's base recipe"
    )


def test_an_imported_baseline_is_not_tried_again() -> None:
    proposer, trials = make_proposer(2, ("ed", "decred-paper"), recipe=RATE), Trials()
    paper = make_baseline("decred-paper", TINY)
    assert adopt(proposer, trials, paper, "decred-paper") is None
    assert adopt(proposer, trials, paper, "decred-paper") == "baseline 'decred-paper' was tried here already"
    assert [proposal.baseline for proposal in run_all(proposer, trials)] == ["ed", None, None]


def test_a_baseline_of_another_base_recipe_does_not_fit() -> None:
    proposer, trials = make_proposer(2, ("ed",), recipe=RATE), Trials()
    other, layers = make_baseline("ed", rate(0.002, **{"encoder.layers": 3})), TINY.encoder.layers
    assert adopt(proposer, trials, other, "ed") == f"encoder.layers is 3, but {layers} in this study's base recipe"
    assert proposer.count_remaining(trials) == 3


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"optimiser.learning_rate": 0.01}, r"optimiser.learning_rate 0.01 is outside [0.001, 0.004]"),
        ({"encoder.dropout": 0.3}, "encoder.dropout 0.3 is not one of 0.1, 0.2"),
        (
            {"loss.auxiliary.placement": [1, 2], "loss.auxiliary.weights": [0.2, 0.2]},
            "auxiliary.count 2 is outside [0, 1]",
        ),
        (
            {"loss.auxiliary.placement": [3], "loss.auxiliary.weights": [0.4]},
            "auxiliary.placement 3 is on a layer that auxiliary.layers leaves out",
        ),
        (
            {"loss.auxiliary.placement": [1], "loss.auxiliary.weights": [0.05]},
            "final_weight 0.95 is outside [0.3, 0.9]",
        ),
    ],
)
def test_a_trial_outside_the_space_is_refused_with_the_reason(values: dict[str, Any], reason: str) -> None:
    recipe = RATE | {"encoder.dropout": {"choice": [0.1, 0.2]}}
    proposer, trials = make_proposer(recipe=recipe, auxiliary={"count": [0, 1], "layers": [1, 2]}), Trials()
    inside = {"optimiser.learning_rate": 0.002, "encoder.dropout": 0.1}
    assert adopt(proposer, trials, with_values(TINY, inside | values)) == reason
    assert proposer.count_remaining(trials) == 4


def test_an_imported_grid_point_is_not_tried_again() -> None:
    proposer, trials = make_proposer(9, sampler="grid", grid_points=3, recipe=RATE), Trials()
    assert proposer.count_remaining(trials) == 3
    # as a recipe file rounds it: the middle of the logarithmic range
    assert adopt(proposer, trials, rate(0.002 * (1 + 1e-12))) is None
    rates = sorted(proposal.recipe.optimiser.learning_rate for proposal in run_all(proposer, trials))
    assert rates == [0.001, 0.004]
