"""What MLflow hears is a function of the ledger's events, and a backlog is few requests."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from study.ledger.records import TrialState
from study.tracking.telling import Telling


def event(kind: str, time: float, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "time": time, **fields}


def started(number: int, time: float = 1.0) -> dict[str, Any]:
    return event("trial_started", time, number=number, recipe_hash="abc", values={"ctc_weight": 0.3}, baseline=None)


def epoch(number: int, epoch: int, time: float = 2.0) -> dict[str, Any]:
    return event("trial_epoch", time, number=number, epoch=epoch, metrics={"dev/wer": 50.0, "train/loss": None})


def ended(number: int, state: str, time: float = 9.0) -> dict[str, Any]:
    return event("trial_ended", time, number=number, state=state, reason=None, metrics={"test/a/wer": 40.0})


def test_the_events_of_a_run_are_one_change_however_they_alternate() -> None:
    events = [started(0), started(1), *(epoch(n, e) for e in range(1, 21) for n in (0, 1)), ended(1, "complete")]
    first, second = Telling().changes(events)
    assert (first.number, first.state, len(first.points)) == (0, TrialState.RUNNING, 40)
    assert (second.number, second.state, len(second.points)) == (1, TrialState.COMPLETE, 41)
    assert (second.started, second.ended, second.tags["trial.epoch"]) == (1.0, 9.0, "20")


def test_a_change_stays_below_what_one_request_takes() -> None:
    changes = Telling().changes([started(0), *(epoch(0, e) for e in range(1, 1001))])
    assert [len(change.points) for change in changes] == [800, 800, 400]


def test_where_the_batches_are_cut_makes_no_difference_to_the_points() -> None:
    events = [started(0), epoch(0, 1), epoch(0, 2), ended(0, "interrupted"), started(0), epoch(0, 2), epoch(0, 3)]
    events.append(ended(0, "complete"))

    def points(size: int) -> list[tuple[str, int, float]]:
        telling = Telling()
        batches = [telling.changes(events[at : at + size]) for at in range(0, len(events), size)]
        return [(p.name, p.step, p.time) for batch in batches for change in batch for p in change.points]

    assert points(1) == points(3) == points(100)
    assert [step for name, step, _ in points(1) if name == "dev/wer"] == [1, 2, 3]
    assert [step for name, step, _ in points(1) if name == "test/a/wer"] == [2, 3]


def test_trials_that_a_dead_session_left_are_interrupted_by_the_next_one() -> None:
    telling = Telling()
    telling.changes([event("study_started", 0.0), started(0), started(1), ended(1, "pruned")])
    changes = {change.number: change for change in telling.changes([event("study_started", 20.0)])}
    assert changes.keys() == {None, 0}
    assert (changes[0].state, changes[0].ended) == (TrialState.INTERRUPTED, 20.0)
    assert changes[None].state is TrialState.RUNNING


def test_a_study_that_stops_before_its_end_names_the_best_trial_so_far() -> None:
    best = {"best": 3, "best_recipe_hash": "abc"}
    (change,) = Telling().changes([event("study_interrupted", 7.0, reason=None, **best)])
    assert (change.number, change.state, change.ended) == (None, TrialState.INTERRUPTED, 7.0)
    assert change.tags["study.best_trial"] == "3"
    assert change.tags["study.best_recipe_hash"] == "abc"
    (nothing,) = Telling().changes([event("study_interrupted", 7.0, reason=None)])
    assert "study.best_trial" not in nothing.tags


def test_an_unknown_event_is_passed_and_a_broken_one_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        changes = Telling().changes([event("new_kind", 1.0), event("trial_epoch", 1.0, number=0), started(1)])
    assert [change.number for change in changes] == [1]
    assert [record.getMessage() for record in caplog.records] == ["tracking: an event was left out (KeyError: 'epoch')"]


def test_a_reason_keeps_what_every_database_takes() -> None:
    broken = event("trial_ended", 3.0, number=0, state="failed", reason="a\0b" + "c" * 9000, metrics={})
    (change,) = Telling().changes([broken])
    assert change.tags["trial.reason"] == "ab" + "c" * 4998
