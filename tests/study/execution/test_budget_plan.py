"""A budget is never passed, and nearly all of it is used; on a virtual clock, with the real agenda and proposer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from simulated_budget import EPOCHS, TICK, Simulation, make_study

from study.config.study_file import StudyFile
from study.evidence.costs import Costs
from study.evidence.reserve import find_margin, keep_reserve
from study.ledger.budget_events import CONFIRMATION, SEARCH
from study.ledger.records import TrialRecord, TrialState
from study.verdict.study_verdict import make_verdict

TRIAL = 290.0 / 3600  # hours that a trial of the simulation takes, more or less
QUESTION: dict[str, Any] = {
    "question": "decred against ed",
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "sampler": "random"},
}
LIMITS = st.sampled_from(("hours", "gpu_hours", "cpu_hours", "cost"))
RULES: dict[str, dict[str, Any]] = {
    "none": {"rule": "none"},
    "asha": {"rule": "asha", "grace_epochs": 1},
    "asha-promote": {"rule": "asha-promote", "grace_epochs": 1},
    "median": {"rule": "median", "grace_epochs": 1},
    "evidence": {"rule": "evidence"},
}


def make_budget(name: str, trials: float) -> dict[str, Any]:
    """A budget for so many trials, one at a time."""
    prices = {"prices": {"cpu_hour": 1.0}} if name == "cost" else {}
    return {name: trials * TRIAL, **prices}


def make_limited(name: str, trials: float, **changes: Any) -> StudyFile:
    """A study with such a budget, whose workers have GPUs where that counts them."""
    workers = {"workers": {"gpus": 1}} if name == "gpu_hours" else {}
    return make_study(make_budget(name, trials), **workers, **changes)


def list_confirmations(simulation: Simulation) -> list[TrialRecord]:
    return [record for record in simulation.trials.values() if record.confirms is not None]


def with_budget(study: StudyFile, budget: dict[str, Any]) -> StudyFile:
    return StudyFile.model_validate(study.model_dump() | {"budget": budget})


@settings(max_examples=25, deadline=None)
@given(
    LIMITS,
    st.floats(0.3, 18.0),
    st.booleans(),
    st.integers(1, 3),
    st.floats(0.0, 1.0),
    st.floats(1.0, 8.0),
    st.floats(0.0, 3000.0),
    st.lists(st.floats(10.0, 1500.0), max_size=3),
    st.integers(0, 1000),
)
def test_a_budget_is_never_passed_whatever_becomes_slower_and_whenever_the_driver_is_killed(
    name: str,
    trials: float,
    asks: bool,
    slots: int,
    spread: float,
    slow: float,
    slow_after: float,
    kills: list[float],
    seed: int,
) -> None:
    study = make_limited(name, trials, **(QUESTION if asks else {}), score_tests="none")
    simulation = Simulation(study, slots, spread=spread, slow=slow, slow_after=1000 + slow_after, seed=seed)
    for after in kills:
        simulation.run(until=simulation.now + after)
        assert simulation.used[name] <= trials * TRIAL
        if simulation.ended:
            break
    for _ in range(3):  # one that had to stop at once is continued with the same budget, and then ends
        if not simulation.ended:
            simulation.run()
        assert simulation.used[name] <= trials * TRIAL
    assert simulation.ended
    assert simulation.trials.running == []


@pytest.mark.parametrize(("name", "slots"), [("hours", 1), ("cpu_hours", 3)])
@pytest.mark.parametrize("more", [{}, QUESTION], ids=["search alone", "with a verdict"])
def test_nearly_all_of_a_budget_is_used_while_trials_remain(name: str, slots: int, more: dict[str, Any]) -> None:
    simulation = Simulation(make_study(make_budget(name, 36), **more), slots).run()
    used = simulation.used[name] / (36 * TRIAL)
    assert simulation.trials.budget_reached.keys() == {SEARCH}, "the search's trials were too few for the budget"
    assert 0.95 <= used <= 1.0
    assert {record.state for record in simulation.trials.values()} == {TrialState.COMPLETE}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("more", [{}, QUESTION], ids=["search alone", "with a verdict"])
def test_where_a_trial_is_less_than_3_percent_of_a_budget_95_percent_of_it_is_used(
    rule: str, more: dict[str, Any]
) -> None:
    study = make_study(make_budget("cpu_hours", 36), early_stopping=RULES[rule], **more)
    for slots, seed in ((1, 1), (4, 2)):
        simulation = Simulation(study, slots, seed=seed).run()
        assert simulation.ended
        assert 0.95 <= simulation.used["cpu_hours"] / (36 * TRIAL) <= 1.0


@settings(max_examples=20, deadline=None)
@given(
    LIMITS,
    st.sampled_from(sorted(RULES)),
    st.floats(1.2, 16.0),
    st.booleans(),
    st.integers(1, 4),
    st.integers(2, 9),
    st.floats(0.0, 1.0),
    st.integers(0, 1000),
)
def test_what_a_search_leaves_unused_is_less_than_its_next_trial_may_take(
    name: str, rule: str, trials: float, asks: bool, slots: int, epochs: int, spread: float, seed: int
) -> None:
    study = make_limited(name, trials, early_stopping=RULES[rule], **(QUESTION if asks else {}))
    simulation = Simulation(study, slots, epochs=epochs, spread=spread, seed=seed).run()
    if (then := simulation.at_end) is None:
        return  # a limit was reached while trials ran, so nothing is left
    assert study.budget is not None
    costs = Costs(then)
    next_trial = costs.estimate_whole("", epochs, with_tests=False)
    assert next_trial is not None
    rate = study.budget.find_rate(name, study.workers)
    kept = keep_reserve(study, then, costs, SEARCH, epochs, slots)
    needed = kept.find_duration(slots) if name == "hours" else kept.sum_up()
    most = (next_trial.high + needed.high) * rate + find_margin(study, study.budget, name, slots)
    assert simulation.left_at_end[name] < most


def test_a_verdict_is_planned_into_the_budget() -> None:
    simulation = Simulation(make_study(make_budget("cpu_hours", 20), **QUESTION), slots=2).run()
    confirmations = list_confirmations(simulation)
    assert len(confirmations) == 6
    assert {record.state for record in confirmations} == {TrialState.COMPLETE}
    assert make_verdict(simulation.trials) is not None


@settings(max_examples=20, deadline=None)
@given(
    LIMITS, st.floats(13.0, 30.0), st.integers(1, 3), st.lists(st.floats(10.0, 500.0), max_size=3), st.integers(0, 99)
)
def test_what_is_kept_for_the_verdict_is_enough_however_often_the_driver_is_killed_before_the_search_has_ended(
    name: str, trials: float, slots: int, kills: list[float], seed: int
) -> None:
    """A law only where trials take as long as those before them. Where they differed, one study in fifty lost its last
    confirmation; where the machine became slower before the search had ended, nearly all lost some."""
    study = make_limited(name, trials, **QUESTION, score_tests="none")
    simulation = Simulation(study, slots, spread=0.01, seed=seed)
    for after in kills:
        simulation.run(until=simulation.now + after)
    assume(simulation.at_end is None)  # a later kill costs what the verdict was kept for
    simulation.run()
    assert (then := simulation.at_end) is not None
    assert keep_reserve(study, then, Costs(then), SEARCH, EPOCHS, slots).seeds == 3
    assert [record.state for record in list_confirmations(simulation)] == [TrialState.COMPLETE] * 6


def test_a_last_confirmation_without_room_for_its_rest_ends_the_study_and_a_larger_budget_continues_it() -> None:
    study = make_study(make_budget("cpu_hours", 14), **QUESTION)
    end = Simulation(study).run().now
    simulation = Simulation(study, slow=3.0, slow_after=end - 200.0).run()
    assert simulation.ended
    assert simulation.trials.budget_reached.keys() == {SEARCH, CONFIRMATION}
    (stopped,) = simulation.list_states(TrialState.INTERRUPTED)
    assert stopped.confirms is not None
    simulation.study = with_budget(study, make_budget("cpu_hours", 40))
    simulation.run()
    assert simulation.trials[stopped.number].state is TrialState.COMPLETE


def test_where_a_verdict_takes_more_than_half_of_the_budget_the_search_uses_all_of_it() -> None:
    simulation = Simulation(make_study(make_budget("cpu_hours", 10), **QUESTION)).run()
    assert simulation.trials.budget_reached.keys() == {SEARCH, CONFIRMATION}
    assert not list_confirmations(simulation)
    assert len(simulation.trials) >= 8


def test_the_first_trial_runs_alone_until_it_has_reported() -> None:
    simulation = Simulation(make_study(make_budget("cpu_hours", 20), baselines=["ed", "decred-paper"]), slots=4).run()
    assert simulation.running_at_reports[0] == 1, "nothing is known of what a trial takes"
    assert max(simulation.running_at_reports) == 4


def test_a_trial_that_has_no_room_any_more_is_interrupted_after_an_epoch_and_a_larger_budget_continues_it() -> None:
    study = make_study(make_budget("cpu_hours", 6))
    simulation = Simulation(study, slots=2, slow=4.0, slow_after=1600.0).run()
    assert simulation.ended
    stopped = simulation.list_states(TrialState.INTERRUPTED)
    assert stopped
    for record in stopped:
        assert 1 <= record.epoch < EPOCHS
        reason = record.reason or ""
        assert reason.startswith("budget: CPU-hours 0.")
        assert reason.endswith(f"of {6 * TRIAL:g} used after epoch {record.epoch}, no room for the rest of it")
    simulation.study = with_budget(study, make_budget("cpu_hours", 30))
    simulation.run()
    assert [simulation.trials[record.number].state for record in stopped] == [TrialState.COMPLETE] * len(stopped)
    assert simulation.used["cpu_hours"] <= 30 * TRIAL


def test_trials_that_wait_at_a_rung_when_the_budget_ends_stay_resumable_and_a_larger_budget_continues_them() -> None:
    study = make_study(make_budget("cpu_hours", 6), early_stopping=RULES["asha-promote"], trials=24)
    simulation = Simulation(study, slots=2).run()
    assert simulation.ended
    assert simulation.trials.budget_reached.keys() == {SEARCH}
    waiting = simulation.list_states(TrialState.WAITING)
    assert waiting
    assert {record.state for record in simulation.trials.values()} == {TrialState.COMPLETE, TrialState.WAITING}
    before = len(simulation.trials)
    assert before < 25
    simulation.run()
    assert len(simulation.trials) == before, "the same budget continues nothing"
    assert simulation.list_states(TrialState.WAITING) == waiting

    simulation.study = with_budget(study, make_budget("cpu_hours", 40))
    simulation.run()
    assert simulation.ended
    assert len(simulation.trials) == 25
    after = [simulation.trials[record.number] for record in waiting]
    assert {record.state for record in after} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(record.reason == "others of its rung were better" for record in after if not record.has_all_epochs)
    assert simulation.used["cpu_hours"] <= 40 * TRIAL


def test_what_has_no_room_as_a_new_trial_brings_the_best_of_the_paused_trials_to_their_ends() -> None:
    study = make_study(make_budget("cpu_hours", 2.6), early_stopping=RULES["asha-promote"], baselines=[])
    simulation = Simulation(study).run()
    assert len(simulation.list_states(TrialState.COMPLETE)) == 1, "without it the study would end with no best trial"
    assert simulation.list_states(TrialState.WAITING)


def test_where_the_search_has_no_finalists_yet_it_may_use_what_was_kept_to_confirm_them() -> None:
    rule = {"early_stopping": RULES["asha-promote"]}
    simulation = Simulation(make_study(make_budget("cpu_hours", 12), **QUESTION, **rule), seed=1)
    simulation.run()
    classes = {record.recipe_class for record in simulation.list_states(TrialState.COMPLETE)}
    assert classes == {"ed", "decred"}
    assert list_confirmations(simulation)
    assert 0.9 <= simulation.used["cpu_hours"] / (12 * TRIAL) <= 1.0


def test_a_budget_below_a_single_trial_ends_the_study_soon() -> None:
    simulation = Simulation(make_study(make_budget("cpu_hours", 0.6))).run()
    assert simulation.ended
    assert [record.state for record in simulation.trials.values()] == [TrialState.INTERRUPTED]
    assert simulation.used["cpu_hours"] < 0.4 * TRIAL, "it went on though it could not end"


def test_a_budget_of_less_than_a_minute_is_stopped_a_look_before_its_end() -> None:
    simulation = Simulation(make_study({"cpu_hours": 40 / 3600}), epoch=600.0).run()
    assert (simulation.stopped or "").endswith("used; raise budget.cpu_hours")
    assert 40.0 - 3600 * simulation.used["cpu_hours"] >= TICK, "a driver that is late by one look would have passed it"


def test_a_budget_that_holds_all_trials_ends_nothing() -> None:
    simulation = Simulation(make_study(make_budget("hours", 30), trials=4, **QUESTION), slots=2).run()
    assert simulation.ended
    assert simulation.trials.budget_reached == {}
    assert len(simulation.trials) == 1 + 4 + 6


def test_the_limit_that_is_reached_first_counts() -> None:
    budget = {"hours": 100.0, "cpu_hours": 8 * TRIAL}
    simulation = Simulation(make_study(budget), slots=2).run()
    assert simulation.ended
    assert 0.85 * 8 * TRIAL <= simulation.used["cpu_hours"] <= 8 * TRIAL
