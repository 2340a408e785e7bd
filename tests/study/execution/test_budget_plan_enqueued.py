"""An enqueued recipe that the budget has no room for waits for a larger one, and the search goes on without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from simulated_budget import EPOCHS, Simulation, make_study

from model.recipe.files import named_recipe, with_values
from study.config.study_file import StudyFile
from study.display.budget import describe_budget
from study.early_stopping.rules import build_rule
from study.execution.agenda import Agenda
from study.execution.budget_plan import plan_for
from study.ledger.budget_events import CONFIRMATION, SEARCH, BudgetReached
from study.ledger.events import ControlGiven, SessionStarted, TrialEnded, TrialState
from study.search.proposal import Proposal
from study.search.proposer import Proposer

TRIAL = 290.0 / 3600  # hours that a trial of the simulation takes, more or less
BASE = with_values(named_recipe("tiny", "/speech"), {"training.epochs": EPOCHS, "decoding_search.share": 0.0})
QUESTION: dict[str, Any] = {
    "question": "decred against ed",
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "sampler": "random"},
}


def make_begun(size: float, *epochs: int, slots: int = 1, until: float = 1800.0, **changes: Any) -> Simulation:
    """A study with a budget for so many trials, in which recipes of so many epochs are enqueued when it has begun."""
    simulation = Simulation(make_study({"cpu_hours": size * TRIAL}, **changes), slots).run(until)
    for number, one in enumerate(epochs):
        recipe = with_values(BASE, {"training.epochs": one}).model_dump_json()
        order = {"who": "ada@laptop", "command": "enqueue", "value": recipe, "id": f"order {number}"}
        simulation.trials.apply(ControlGiven(time=simulation.now, **order))
    return simulation


def make_agenda(simulation: Simulation, study: StudyFile | None = None) -> Agenda:
    """The agenda of a study as it is now, of a session that goes on."""
    study, trials = study or simulation.study, simulation.trials
    plan = plan_for(study, trials, BASE, lambda: simulation.now)
    plan.concurrency = simulation.slots
    rule, proposer = build_rule(study.early_stopping, "dev/wer", trials, study.classes), Proposer(study, BASE)
    return Agenda(trials, proposer, lambda record: Proposal(record.number, BASE, {}), rule, study.failures, budget=plan)


def list_waiting(simulation: Simulation) -> list[str]:
    return [one.id for one in simulation.trials.steering.enqueued]


def list_points(simulation: Simulation, numbers: Iterable[int]) -> list[Any]:
    return [simulation.trials[number].point for number in numbers]


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("more", [{}, QUESTION], ids=["search alone", "with a verdict"])
def test_sampled_trials_go_on_beside_an_enqueued_recipe_that_the_budget_has_no_room_for(
    slots: int, more: dict[str, Any]
) -> None:
    simulation = make_begun(36, 60 * EPOCHS, slots=slots, **more).run()
    assert simulation.ended
    assert 0.95 <= simulation.used["cpu_hours"] / (36 * TRIAL) <= 1.0
    assert simulation.trials.budget_reached.keys() == {SEARCH}
    assert {record.state for record in simulation.trials.values()} == {TrialState.COMPLETE}
    confirmed = [record for record in simulation.trials.values() if record.confirms is not None]
    assert len(confirmed) == (6 if more else 0)
    assert list_waiting(simulation) == ["order 0"]
    (line,) = describe_budget(simulation.study, simulation.trials)
    assert "; a larger one has" in line
    assert line.endswith("; 1 enqueued recipe waits for it")


def test_a_study_that_is_killed_and_continued_beside_it_tries_the_same_points() -> None:
    whole = make_begun(12, 60 * EPOCHS).run()
    killed = make_begun(12, 60 * EPOCHS).run(until=2600.0).run()
    assert killed.ended
    numbers = [number for number in whole.trials if number in killed.trials]
    assert len(numbers) >= 10
    assert list_points(killed, numbers) == list_points(whole, numbers)


def test_baselines_and_other_enqueued_recipes_go_first_too() -> None:
    simulation = make_begun(12, 60 * EPOCHS, EPOCHS, until=1900.0)
    simulation.trials.apply(SessionStarted(time=simulation.now))
    for number in list(simulation.trials):
        if not simulation.trials[number].state.final:
            simulation.trials.apply(TrialEnded(time=simulation.now, number=number, state=TrialState.PRUNED))
    given = make_agenda(simulation).next()
    assert isinstance(given, Proposal)
    assert given.enqueued is not None
    assert given.enqueued.id == "order 1"
    with_baseline = simulation.study.model_copy(update={"baselines": ["ed", "decred-paper"]})
    proposal = Proposer(with_baseline, BASE).propose(simulation.trials, ["order 0", "order 1"])
    assert isinstance(proposal, Proposal)
    assert (proposal.baseline, proposal.enqueued) == ("decred-paper", None)


def test_the_search_ends_once_it_has_nothing_else_and_a_larger_budget_tries_it_next() -> None:
    simulation = make_begun(24, 60 * EPOCHS, trials=8, **QUESTION).run()
    assert simulation.ended
    assert len(simulation.trials) == 1 + 8 + 6, "finalists are confirmed though a recipe of the search waits"
    assert simulation.trials.budget_reached.keys() == {SEARCH}
    assert make_agenda(simulation).is_done()
    larger = make_study({"cpu_hours": 200 * TRIAL}, trials=8, **QUESTION)
    given = make_agenda(simulation, larger).next()
    assert isinstance(given, Proposal)
    assert given.enqueued is not None


def test_a_recipe_that_only_has_no_room_beside_what_runs_keeps_its_turn() -> None:
    simulation = make_begun(8, 7 * EPOCHS, slots=2, until=1200.0)
    agenda, running = make_agenda(simulation), simulation.trials.running
    assert len(running) == 2
    assert agenda.next() is None, "a smaller one would take its room"
    for number in running:
        simulation.trials.apply(TrialEnded(time=simulation.now, number=number, state=TrialState.PRUNED))
    given = agenda.next()
    assert isinstance(given, Proposal)
    assert given.enqueued is not None


def test_what_no_trial_has_shown_the_cost_of_is_not_passed_over() -> None:
    simulation = make_begun(3, 60 * EPOCHS, until=1030.0)
    assert simulation.trials.running == [0]
    assert make_agenda(simulation).next() is None


def test_where_nothing_fits_the_search_ends_at_once() -> None:
    simulation = make_begun(1.5, 60 * EPOCHS, 60 * EPOCHS, until=1200.0)
    for number in simulation.trials.running:
        simulation.trials.apply(TrialEnded(time=simulation.now, number=number, state=TrialState.COMPLETE))
    given = make_agenda(simulation).next()
    assert isinstance(given, BudgetReached)
    assert given.part == SEARCH
    assert CONFIRMATION not in simulation.trials.budget_reached
