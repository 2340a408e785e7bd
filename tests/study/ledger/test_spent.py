"""What a study has used, by its events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_events import Driver

from study.config.budget import BudgetSettings
from study.config.run_settings import WorkerSettings
from study.ledger.budget_events import SessionWorkers, TestsStarted
from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    Seconds,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialDecodingSearched,
    TrialEnded,
    TrialEpoch,
    TrialImported,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.spent import Spent

BUDGET = BudgetSettings.model_validate({"hours": 1, "cpu_hours": 1, "cost": 1, "prices": {"cpu_hour": 2.0}})
WORKERS = WorkerSettings(count=1, cpus=1.0)
CHOICES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 399)), max_size=60)


def measure(spent: Spent, now: float | None = None) -> dict[str, float]:
    """What was used, in seconds."""
    return {name: 3600 * value for name, value in spent.measure(BUDGET, WORKERS, now).items()}


def list_events(choices: list[tuple[int, int]]) -> list[AnyEvent]:
    """What a driver writes, and now and then a person, who pauses the study or resumes it."""
    driver, events = Driver(), list[AnyEvent]()
    for number, choice in choices:
        event = driver.next_event(number, choice)
        orders = [order("pause" if choice % 2 else "resume", event.time)] if choice % 5 == 0 else []
        events += [event, *orders]
    return events


def order(command: str, time: float, number: int | None = None) -> ControlGiven:
    return ControlGiven(time=time, who="ada@laptop", command=command, number=number)


@given(CHOICES, st.integers(0, 60))
def test_what_was_spent_is_the_same_folded_at_once_or_in_parts_and_never_decreases(
    choices: list[tuple[int, int]], cut: int
) -> None:
    events = list_events(choices)
    parts = Spent.fold(events[:cut])
    for event in events[cut:]:
        before = parts.measure(BUDGET, WORKERS)
        parts.apply(event)
        assert all(value >= before[name] - 1e-12 for name, value in parts.measure(BUDGET, WORKERS).items())
    assert parts == Spent.fold(events)


@given(CHOICES)
def test_trials_use_no_more_than_all_of_them_together_could_in_the_hours_of_the_sessions(
    choices: list[tuple[int, int]],
) -> None:
    used = measure(Spent.fold(list_events(choices)))
    assert used["cpu_hours"] <= 4 * used["hours"] + 1e-6  # the events are of four trials
    assert used["cost"] == pytest.approx(2 * used["cpu_hours"])


def session(time: float, **fields: Any) -> SessionStarted:
    return SessionStarted(time=time, workers=SessionWorkers(), **fields)


def test_a_trial_is_counted_while_it_holds_its_workers_lost_work_included() -> None:
    spent = Spent.fold(
        [
            session(100.0),
            TrialStarted(time=110.0, number=0),
            TrialEpoch(time=130.0, number=0, epoch=1),
            TrialRetried(time=137.0, number=0, count=1, lost_seconds=7.0),
            TrialStarted(time=150.0, number=0),
            TrialMoved(time=155.0, number=0, reason="drained"),
            TrialStarted(time=160.0, number=0),
            TrialPaused(time=170.0, number=0, epoch=2),
            TrialStarted(time=200.0, number=0),
            TrialDecodingSearched(time=205.0, number=0, decoding={}, seconds=4.0),
            TrialEnded(time=210.0, number=0, state=TrialState.COMPLETE),
            StudyEnded(time=220.0, state=TrialState.COMPLETE),
        ]
    )
    assert measure(spent) == {"hours": 120.0, "cpu_hours": pytest.approx(27 + 5 + 10 + 10), "cost": pytest.approx(104)}
    assert spent.running == []


def test_work_on_a_trial_after_its_end_is_counted_once() -> None:
    ended = [
        session(0.0),
        TrialStarted(time=0.0, number=0),
        TrialEnded(time=10.0, number=0, state=TrialState.COMPLETE),
    ]
    scored = TrialDecoded(time=25.0, number=0, decoding={}, decoding_hash="", seconds=3.0)
    assert measure(Spent.fold([*ended, scored]))["cpu_hours"] == pytest.approx(13.0)
    within = [*ended, TestsStarted(time=20.0, number=0), scored]
    assert measure(Spent.fold(within))["cpu_hours"] == pytest.approx(15.0)
    killed = [*ended, TestsStarted(time=20.0, number=0), session(99.0, alive_until=23.0)]
    assert measure(Spent.fold(killed))["cpu_hours"] == pytest.approx(13.0)


def test_what_ran_when_a_driver_was_killed_is_counted_until_its_last_heartbeat() -> None:
    killed = [session(0.0), TrialStarted(time=10.0, number=0), TrialEpoch(time=30.0, number=0, epoch=1)]
    assert measure(Spent.fold([*killed, session(1000.0)])) == {"hours": 30.0, "cpu_hours": 20.0, "cost": 40.0}
    known = Spent.fold([*killed, session(1000.0, alive_until=36.0)])
    assert measure(known) == {"hours": pytest.approx(36.0), "cpu_hours": pytest.approx(26.0), "cost": pytest.approx(52)}
    absurd = Spent.fold([*killed, session(1000.0, alive_until=5000.0)])
    assert measure(absurd)["hours"] == pytest.approx(1000.0), "a heartbeat after the next start is of another clock"


def test_what_runs_is_counted_until_now_and_what_came_by_a_fork_is_not() -> None:
    running = [session(0.0), TrialStarted(time=10.0, number=0)]
    assert measure(Spent.fold(running), now=15.0) == {"hours": 15.0, "cpu_hours": 5.0, "cost": 10.0}
    imported = TrialImported(time=20.0, number=1, source="o/1", state=TrialState.COMPLETE, started=1.0, ended=9.0)
    assert 1 not in Spent.fold([*running, imported]).trials


def test_each_session_counts_with_the_workers_that_its_trials_had() -> None:
    events: list[AnyEvent] = []
    for start, workers in ((0.0, SessionWorkers(count=2, cpus=3.0)), (50.0, SessionWorkers()), (90.0, None)):
        events += [
            SessionStarted(time=start, workers=workers),
            TrialStarted(time=start, number=0),
            StudyInterrupted(time=start + 10.0),
        ]
    spent = Spent.fold(events)
    assert measure(spent)["cpu_hours"] == pytest.approx(60 + 10 + 10), "an earlier version's as the study file has them"
    assert 3600 * spent.measure(BUDGET, WorkerSettings(cpus=4.0))["cpu_hours"] == pytest.approx(60 + 10 + 40)


def test_the_hours_of_a_pause_are_not_counted_once_no_trial_holds_workers_any_more() -> None:
    pause = [order("pause", 20.0), order("pause", 21.0, number=0), TrialPaused(time=30.0, number=0, epoch=1)]
    paused = Spent.fold([session(0.0), TrialStarted(time=10.0, number=0), *pause])
    assert measure(paused, now=5000.0) == {"hours": 30.0, "cpu_hours": 20.0, "cost": 40.0}
    paused.apply(order("resume", 6000.0))
    assert measure(paused, now=6005.0)["hours"] == pytest.approx(35.0)
    paused.apply(order("pause", 6010.0))
    paused.apply(StudyInterrupted(time=7000.0))
    assert measure(paused)["hours"] == pytest.approx(40.0)
    paused.apply(session(8000.0))
    assert measure(paused, now=9000.0)["hours"] == pytest.approx(40.0), "it is still paused"
    paused.apply(order("resume", 9000.0))
    paused.apply(StudyEnded(time=9003.0, state=TrialState.COMPLETE))
    assert measure(paused)["hours"] == pytest.approx(43.0)


def test_a_clock_that_was_set_back_adds_nothing() -> None:
    events = [session(100.0), TrialStarted(time=110.0, number=0), TrialEpoch(time=50.0, number=0, epoch=1)]
    assert measure(Spent.fold(events)) == {"hours": 10.0, "cpu_hours": 0.0, "cost": 0.0}


def test_the_start_of_the_workers_is_not_taken_for_a_part_of_the_first_epoch() -> None:
    events = [session(0.0), TrialStarted(time=0.0, number=0)]
    seconds = Seconds(training=8.0, validation=2.0)
    events += [TrialEpoch(time=at, number=0, epoch=epoch, seconds=seconds) for epoch, at in ((1, 40.0), (2, 51.0))]
    use = Spent.fold(events).trials[0]
    assert (use.starting, use.reports, use.reporting, use.longest) == (30.0, 2, 21.0, 11.0)


def test_the_hours_for_which_a_machine_slept_are_used_and_say_nothing_of_the_next_epoch() -> None:
    minute, night = Seconds(training=50.0, validation=10.0), 36_000.0
    spent = Spent.fold(
        [
            SessionStarted(time=0),
            TrialStarted(time=0, number=0),
            TrialEpoch(time=60, number=0, epoch=1, seconds=minute),
            TrialEpoch(time=150, number=0, epoch=2, seconds=minute),
            TrialEpoch(time=210 + night, number=0, epoch=3, seconds=minute),
        ]
    )
    use = spent.trials[0]
    assert (use.reports, use.reporting, use.longest) == (3, 60 + 90 + 60, 90)
    assert measure(spent)["hours"] == 210 + night
