"""What a budget keeps for confirmations goes by the trials that may become finalists."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from simulated_budget import EPOCHS, Simulation, make_study

from study.evidence.costs import Costs
from study.evidence.reserve import Reserve, keep_reserve
from study.ledger.budget_events import SEARCH
from study.ledger.events import Seconds, TrialEnded, TrialEpoch, TrialStarted, TrialState
from study.ledger.trials import Trials

STUDY = make_study(
    {"cpu_hours": 10.0},
    question="decred against ed",
    search={"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "sampler": "random"},
)
LONG = 10 * EPOCHS


@pytest.fixture(scope="module")
def begun() -> Simulation:
    """A study in the middle of its search, whose epochs took equally long."""
    return Simulation(STUDY, spread=0.0).run(until=3000.0)


def add_long(begun: Simulation, state: TrialState, **fields: Any) -> Trials:
    """The trials with one more, of more epochs, that came to this state after two of them."""
    trials, number = copy.deepcopy(begun.trials), begun.trials.next_number
    fields = {"recipe_class": "ed", "epochs": LONG} | fields
    trials.apply(TrialStarted(time=begun.now, number=number, recipe_hash="abc", values={}, **fields))
    for epoch in (1, 2):
        seconds, time = Seconds(training=60.0), begun.now + 5.0 + 60.0 * epoch
        trials.apply(TrialEpoch(time=time, number=number, epoch=epoch, metrics={"dev/wer": 50.0}, seconds=seconds))
    if state is not TrialState.RUNNING:
        trials.apply(TrialEnded(time=begun.now + 145.0, number=number, state=state))
    return trials


def keep(trials: Trials) -> Reserve:
    return keep_reserve(STUDY, trials, Costs(trials), SEARCH, EPOCHS, concurrency=1)


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (TrialState.PRUNED, {}),
        (TrialState.FAILED, {}),
        (TrialState.COMPLETE, {"confirms": 0}),
        (TrialState.COMPLETE, {"recipe_class": "interctc"}),
    ],
)
def test_a_long_recipe_that_cannot_become_a_finalist_changes_nothing(
    begun: Simulation, state: TrialState, fields: dict[str, Any]
) -> None:
    kept, without = keep(add_long(begun, state, **fields)), keep(begun.trials)
    assert (kept.seeds, len(kept.trainings)) == (without.seeds, len(without.trainings)) == (3, 6)
    assert kept.sum_up().mean == pytest.approx(without.sum_up().mean)


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.INTERRUPTED, TrialState.COMPLETE])
def test_a_long_recipe_that_may_become_a_finalist_is_kept_room_for(begun: Simulation, state: TrialState) -> None:
    kept, without = keep(add_long(begun, state)), keep(begun.trials)
    assert kept.seeds == without.seeds == 3
    assert kept.sum_up().mean > 5 * without.sum_up().mean
