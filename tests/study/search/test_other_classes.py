"""What a class's sampler is given of the trials of the other classes."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from study.search.other_classes import project_trials

STATES = optuna.trial.TrialState
WEIGHT, COUNT = FloatDistribution(0.1, 0.6), IntDistribution(1, 2)


def trial(
    number: int, value: float | None, state: optuna.trial.TrialState = STATES.COMPLETE, **more: Any
) -> FrozenTrial:
    made = optuna.create_trial(
        state=state,
        value=value,
        params={"ctc_weight": 0.2, "auxiliary.count": 1},
        distributions={"ctc_weight": WEIGHT, "auxiliary.count": COUNT},
        **more,
    )
    made.number = number
    return made


def test_values_are_moved_to_the_same_median_and_classifiers_left_out() -> None:
    own = [trial(number, value) for number, value in ((1, 20.0), (3, 22.0), (5, 30.0))]
    others = [trial(2, 50.0, intermediate_values={1: 80.0}), trial(4, 60.0)]
    first, second = project_trials(own, others)
    assert (first.value, second.value) == (17.0, 27.0), "medians of 22 and 55 are 33 apart"
    assert first.intermediate_values == {1: 47.0}
    assert (first.params, first.distributions) == ({"ctc_weight": 0.2}, {"ctc_weight": WEIGHT})
    assert [first.number, second.number] == [2, 4]
    assert others[0].value == 50.0, "the other class's own are as they were"


@pytest.mark.parametrize("value", [None, math.nan])
def test_nothing_is_taken_over_while_a_class_has_no_value(value: float | None) -> None:
    state = STATES.FAIL if value is None or math.isnan(value) else STATES.COMPLETE
    none = [trial(1, None, state)]
    some = [trial(2, 50.0)]
    assert project_trials(none, some) == []
    assert project_trials(some, none) == []


def test_a_pruned_trial_comes_with_its_value_and_a_running_one_does_not() -> None:
    own = [trial(1, 20.0)]
    pruned = trial(2, 45.0, STATES.PRUNED, intermediate_values={1: 45.0})
    running = optuna.create_trial(state=STATES.RUNNING, params={}, distributions={})
    running.number = 6
    projected = project_trials(own, [trial(4, 40.0), pruned, running])
    assert [(one.number, one.value) for one in projected] == [(4, 20.0), (2, 25.0)]


def test_a_broken_constraint_stays_broken() -> None:
    broken = trial(2, 40.0)
    broken.set_constraint("trainable", 1.0)
    (projected,) = project_trials([trial(1, 20.0)], [broken])
    assert projected.constraints == {"trainable": 1.0}
