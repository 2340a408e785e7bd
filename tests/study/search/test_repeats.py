"""A point that was tried before is trained with another seed, and what was tried elsewhere counts as tried."""

from __future__ import annotations

import math
from typing import Any

import pytest

from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.baselines import baseline
from study.config.study_file import StudyFile
from study.ledger.records import TrialRecord, TrialState
from study.search.proposal import Proposal
from study.search.proposer import Proposer

TINY = named_recipe("tiny", "speech")
RATE = {"optimiser.learning_rate": {"log_uniform": [0.001, 0.004]}}
TWO_POINTS = {"recipe": {"data.speeds": {"choice": [[1.0], [0.9, 1.1]]}}}
TWO_EPOCHS = ({"epoch": 1, "dev/wer": 60.0}, {"epoch": 2, "dev/wer": 40.0})


def proposer(trials: int = 4, baselines: tuple[str, ...] = (), base: Recipe = TINY, **search: Any) -> Proposer:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": baselines, "search": search}
    return Proposer(StudyFile.model_validate(content), base, "sqlite://")


def all_of(proposer: Proposer, state: TrialState = TrialState.COMPLETE) -> list[Proposal]:
    proposals = []
    while (proposal := proposer.propose()) is not None:
        proposals.append(proposal)
        proposer.tell(proposal.number, state, 1.0)
    return proposals


def record(state: TrialState = TrialState.COMPLETE, baseline: str | None = None, wer: float = 40.0) -> TrialRecord:
    return TrialRecord(7, state, baseline=baseline, epochs=TWO_EPOCHS, metrics={"dev/wer": wer})


def rate(value: float, **values: Any) -> Recipe:
    return with_values(TINY, {"optimiser.learning_rate": value, **values})


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INTERRUPTED])
def test_a_point_sampled_again_is_trained_with_the_next_seed_whatever_became_of_it(state: TrialState) -> None:
    base = with_values(TINY, {"training.seed": 5})
    proposals = all_of(proposer(7, base=base, **TWO_POINTS), state)
    assert len({each.recipe.hash for each in proposals}) == 7
    for speeds in ((1.0,), (0.9, 1.1)):
        seeds = [each.recipe.training.seed for each in proposals if each.recipe.data.speeds == speeds]
        assert seeds == list(range(5, 5 + len(seeds)))
    assert all(each.values.get("training.seed", 5) == each.recipe.training.seed for each in proposals)


def test_a_point_that_a_baseline_tried_is_a_repeat_too() -> None:
    (first, *sampled) = all_of(proposer(4, ("ed",), **TWO_POINTS))
    same = [each for each in sampled if each.recipe.data.speeds == first.recipe.data.speeds]
    assert [each.recipe.training.seed for each in same] == list(range(1, len(same) + 1))


def test_a_repeat_keeps_its_seed_over_a_restart(tmp_path: Any) -> None:
    study = proposer(1, **TWO_POINTS)._study_file.model_copy(update={"trials": 5})
    url = f"sqlite:///{tmp_path}/optuna.db"
    first = Proposer(study, TINY, url)
    proposals = [first.propose() for _ in range(5)]
    assert Proposer(study, TINY, url).interrupted() == proposals
    assert {each.recipe.training.seed for each in proposals if each} > {0}


def test_without_repeat_seed_a_point_is_trained_again_as_it_was() -> None:
    proposals = all_of(proposer(4, repeat_seed=False, **TWO_POINTS))
    assert {each.recipe.training.seed for each in proposals} == {0}


def test_a_searched_seed_is_left_to_the_search() -> None:
    proposals = all_of(proposer(5, recipe={"training.seed": {"choice": [1, 2]}}))
    assert {each.recipe.training.seed for each in proposals} <= {1, 2}


def test_a_trial_of_another_study_counts_against_the_budget_and_is_learned_from() -> None:
    study = proposer(3, recipe=RATE)
    assert study.adopt(rate(0.002, **{"data.corpus": "elsewhere", "name": "other"}), record()) == 0
    assert study.adopt(rate(0.003), record(TrialState.PRUNED)) == 1
    whole, stopped = study._trials()
    assert (whole.state.name, whole.value, whole.params) == ("COMPLETE", 40.0, {"optimiser.learning_rate": 0.002})
    assert (stopped.state.name, stopped.value, stopped.intermediate_values) == ("PRUNED", 40.0, {1: 60.0, 2: 40.0})
    assert study.remaining() == 1
    (last,) = all_of(study)
    assert last.number == 2
    assert study._trials()[2].distributions == whole.distributions


def test_an_imported_recipe_sampled_again_is_a_repeat() -> None:
    study = proposer(3, **TWO_POINTS)
    for speeds in ([1.0], [0.9, 1.1]):
        study.adopt(with_values(TINY, {"data.speeds": speeds}), record())
    (last,) = all_of(study)
    assert last.recipe.training.seed == 1


def test_a_repeat_of_another_study_belongs_to_its_point() -> None:
    repeat = rate(0.002, **{"training.seed": 3})
    assert proposer(recipe=RATE).adopt(repeat, record()) == 0
    assert proposer(recipe=RATE, repeat_seed=False).adopt(repeat, record()) == (
        "training.seed is 3, but 0 in this study's base recipe"
    )


def test_an_imported_baseline_is_not_tried_again() -> None:
    study = proposer(2, ("ed", "decred-paper"), recipe=RATE)
    assert study.adopt(baseline("decred-paper", TINY), record(baseline="decred-paper")) == 0
    assert study.adopt(baseline("decred-paper", TINY), record(baseline="decred-paper")) == (
        "baseline 'decred-paper' was tried here already"
    )
    assert [each.baseline for each in all_of(study)] == ["ed", None, None]


def test_a_baseline_of_another_base_recipe_is_not_this_studys() -> None:
    study = proposer(2, ("ed",), recipe=RATE)
    other = baseline("ed", rate(0.002, **{"encoder.layers": 3}))
    layers = TINY.encoder.layers
    assert study.adopt(other, record(baseline="ed")) == f"encoder.layers is 3, but {layers} in this study's base recipe"
    assert study.remaining() == 3


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"optimiser.learning_rate": 0.01}, r"optimiser.learning_rate 0.01 is outside [0.001, 0.004]"),
        ({"encoder.dropout": 0.3}, "encoder.dropout 0.3 is none of 0.1, 0.2"),
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
def test_a_trial_outside_the_space_is_told_why(values: dict[str, Any], reason: str) -> None:
    recipe = RATE | {"encoder.dropout": {"choice": [0.1, 0.2]}}
    study = proposer(recipe=recipe, auxiliary={"count": [0, 1], "layers": [1, 2]})
    inside = {"optimiser.learning_rate": 0.002, "encoder.dropout": 0.1}
    assert study.adopt(with_values(TINY, inside | values), record()) == reason
    assert study.remaining() == 4


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (record(TrialState.FAILED), "it is failed, and only complete and pruned trials can be learned from"),
        (record(wer=math.nan), "it has no dev/wer, which this study makes smaller"),
        (
            TrialRecord(7, TrialState.COMPLETE, metrics={"dev/cer": 1.0}),
            "it has no dev/wer, which this study makes smaller",
        ),
    ],
)
def test_a_trial_without_a_usable_figure_is_told_why(given: TrialRecord, reason: str) -> None:
    assert proposer(recipe=RATE).adopt(rate(0.002), given) == reason


def test_an_imported_grid_point_is_not_tried_again() -> None:
    grid = {"sampler": "grid", "grid_points": 3, "recipe": RATE}
    study = proposer(9, **grid)
    assert study.remaining() == 3
    # as a recipe file rounds it: the middle of the logarithmic range
    assert study.adopt(rate(0.002 * (1 + 1e-12)), record()) == 0
    assert sorted(each.recipe.optimiser.learning_rate for each in all_of(study)) == [0.001, 0.004]
