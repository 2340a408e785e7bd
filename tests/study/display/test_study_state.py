"""How long a study will take yet, for scripts: from the time that its trials trained, and the orders in force."""

from __future__ import annotations

import pytest
from open_session import STUDY, TINY

from study.config.budget import BudgetSettings
from study.config.study_file import StudyFile
from study.display.study_state import estimate_seconds_left
from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    Seconds,
    SessionStarted,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.trials import Trials

FIVE = STUDY.model_copy(update={"trials": 5, "baselines": (), "question": "none"})
DAY = 86400.0


def start(*events: AnyEvent, concurrency: int = 2) -> Trials:
    """A session that begins at 1000 with trials 0 and 1, of four epochs each."""
    session = SessionStarted(time=1000.0, trials=5, concurrency=concurrency)
    return Trials([session, *(TrialStarted(time=1000.0, number=number, epochs=4) for number in (0, 1)), *events])


def estimate(trials: Trials, now: float, study: StudyFile = FIVE) -> float | None:
    return estimate_seconds_left(study, TINY, trials, now)


def report(number: int, epoch: int, time: float, seconds: float | None = None) -> TrialEpoch:
    return TrialEpoch(time=time, number=number, epoch=epoch, seconds=Seconds(training=seconds))


def order(command: str, value: str | None = None) -> ControlGiven:
    return ControlGiven(time=1010.0, who="me", command=command, value=value, id=f"{command} {value}")


def test_the_time_left_is_that_of_the_trials_that_ended_in_this_session() -> None:
    trials = start()
    assert estimate(trials, 1000.0) is None
    trials.apply(report(0, 1, 1010.0))
    assert estimate(trials, 1010.0) == (5 * 40 - 2 * 10) / 2, "at the pace of the first epoch"
    trials.apply(TrialEnded(time=1040.0, number=0, state=TrialState.COMPLETE))
    assert estimate(trials, 1040.0) == (4 * 40 - 40) / 2
    trials.apply(StudyInterrupted(time=1041.0))
    assert estimate(trials, 1041.0) is None


def test_the_start_of_the_workers_is_no_part_of_an_epoch() -> None:
    trials = start(report(0, 1, 1100.0, seconds=10.0))
    assert estimate(trials, 1100.0) == (5 * 40 - 10 - 40) / 2


def test_the_days_between_two_sessions_do_not_count() -> None:
    trials = start(*(report(number, epoch, 1000.0 + 10 * epoch, 10.0) for epoch in (1, 2) for number in (0, 1)))
    trials.apply(StudyInterrupted(time=1020.0))
    later = 1020.0 + 3 * DAY
    trials.apply(SessionStarted(time=later, trials=5, concurrency=2))
    for number in (0, 1):
        trials.apply(TrialStarted(time=later, number=number, epochs=4))
    assert estimate(trials, later) == (5 * 40 - 2 * 20) / 2
    trials.apply(report(0, 3, later + 10.0, 10.0))
    assert estimate(trials, later + 10.0) == (5 * 40 - 2 * 30) / 2
    trials.apply(TrialEnded(time=later + 26.0, number=0, state=TrialState.COMPLETE))
    assert estimate(trials, later + 26.0) == (4 * 46 - 46) / 2, "it trained for 20 s before, and for 26 s here"


def test_the_time_that_a_trial_waits_at_a_rung_does_not_count() -> None:
    trials = start(report(0, 1, 1010.0), TrialPaused(time=1010.0, number=0, epoch=1))
    trials.apply(TrialStarted(time=1500.0, number=0, epochs=4))
    trials.apply(TrialEnded(time=1530.0, number=0, state=TrialState.COMPLETE))
    assert estimate(trials, 1530.0) == (4 * 40 - 40) / 2


def test_epochs_that_were_lost_have_to_be_trained_again() -> None:
    trials = start(*(report(0, epoch, 1000.0 + 10 * epoch, 10.0) for epoch in (1, 2, 3)), concurrency=1)
    trials.apply(TrialRetried(time=1030.0, number=0, count=1, reason="a worker was lost"))
    trials.apply(TrialStarted(time=1030.0, number=0, epochs=4))
    trials.apply(report(0, 2, 1040.0, 10.0))
    trials.apply(TrialPaused(time=1040.0, number=1, epoch=0))
    assert estimate(trials, 1040.0) == 5 * 40 - 2 * 10


@pytest.mark.parametrize(("orders", "left"), [(["trials=9"], 9), (["trials=3"], 3), (["trials=9", "trials=2"], 2)])
def test_the_number_of_trials_is_that_which_people_have_set(orders: list[str], left: int) -> None:
    trials = start(report(0, 1, 1010.0), *(order("set", text) for text in orders))
    assert estimate(trials, 1010.0) == (left * 40 - 20) / 2


def test_enqueued_recipes_count_until_and_after_they_have_started() -> None:
    trials = start(report(0, 1, 1010.0), order("enqueue", TINY.model_dump_json()), concurrency=3)
    assert estimate(trials, 1010.0) == (6 * 40 - 20) / 3
    (enqueued,) = trials.steering.enqueued
    trials.apply(TrialStarted(time=1010.0, number=2, epochs=4, enqueued=enqueued.id, enqueued_by="me"))
    assert estimate(trials, 1010.0) == (6 * 40 - 20) / 3


def with_limit(trials_at_a_time: int) -> StudyFile:
    workers = FIVE.workers.model_copy(update={"concurrent_trials": trials_at_a_time})
    return FIVE.model_copy(update={"workers": workers})


@pytest.mark.parametrize(
    ("study", "text", "at_a_time"),
    [
        (FIVE, "concurrent_trials=1", 1),
        (FIVE, "concurrent_trials=4", 2),  # the machines have no room for more
        (with_limit(2), "concurrent_trials=4", 4),
        (with_limit(4), "concurrent_trials=3", 2),
        (with_limit(2), "concurrent_trials=none", 2),
    ],
)
def test_the_trials_at_a_time_are_as_many_as_people_have_set_where_machines_have_room(
    study: StudyFile, text: str, at_a_time: int
) -> None:
    trials = start(report(0, 1, 1010.0), order("set", text))
    assert estimate(trials, 1010.0, study) == (5 * 40 - 20) / at_a_time


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        ({"hours": 60 / 3600}, 60 - 10),
        ({"cpu_hours": 120 / 3600}, (120 - 2 * 10) / 2),
        ({"hours": 60 / 3600, "cpu_hours": 90 / 3600}, (90 - 2 * 10) / 2),
        ({"hours": 5 / 3600}, 0.0),
        ({"hours": 1.0}, (5 * 40 - 20) / 2),
    ],
)
def test_the_time_left_ends_where_the_budget_does(budget: dict[str, float], left: float) -> None:
    workers = FIVE.workers.model_copy(update={"count": 1, "cpus": 1.0})
    study = FIVE.model_copy(update={"budget": BudgetSettings(**budget), "workers": workers})
    assert estimate(start(report(0, 1, 1010.0)), 1010.0, study) == pytest.approx(left)


def test_machines_that_joined_count_as_soon_as_trials_run_there() -> None:
    trials = start(report(0, 1, 1010.0), TrialStarted(time=1010.0, number=2, epochs=4))
    assert estimate(trials, 1010.0) == (5 * 40 - 20) / 3
