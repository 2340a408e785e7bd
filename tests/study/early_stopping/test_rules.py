"""The rulings of each rule, and that a rule rebuilt from records decides as one that was never interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stopping_history import METRIC, Failure, Report, Step, histories, make_settings, record

from study.early_stopping.asha import Asha
from study.early_stopping.median import Median
from study.early_stopping.promotion import Promotion
from study.early_stopping.rule import ByMetric, Rule, Ruling
from study.early_stopping.rules import build_rule, values_by_epoch
from study.ledger.events import EpochReport
from study.ledger.records import TrialRecord, TrialState

CONTINUE, PRUNE, PAUSE = Ruling.CONTINUE, Ruling.PRUNE, Ruling.PAUSE
RULES = ("asha", "asha-promote", "median", "evidence", "none")


def decide(rule: Rule, number: int, epoch: int, value: float, baseline: bool = False, last: bool = False) -> Ruling:
    return rule.decide(number, epoch, {METRIC: value}, baseline=baseline, last=last)


def build(rule: str, records: dict[int, TrialRecord] | None = None, grace_epochs: int = 1, reduction: int = 2) -> Rule:
    return build_rule(make_settings(rule, grace_epochs, reduction), METRIC, records or {})


def test_asha_stops_a_trial_that_is_behind_its_rung() -> None:
    asha = ByMetric(Asha(1, 2), METRIC)
    assert decide(asha, 0, 1, 20.0) is CONTINUE
    assert decide(asha, 1, 1, 80.0) is PRUNE


@pytest.mark.parametrize("baseline", [True, False])
def test_a_baseline_and_a_last_epoch_are_never_stopped_but_compared_with(baseline: bool) -> None:
    asha = ByMetric(Asha(1, 2), METRIC)
    assert decide(asha, 0, 1, 20.0) is CONTINUE
    assert decide(asha, 1, 1, 90.0, baseline=baseline, last=not baseline) is CONTINUE
    assert decide(asha, 2, 1, 80.0) is PRUNE


def test_asha_compares_a_trial_at_rungs_only() -> None:
    asha = ByMetric(Asha(2, 3), METRIC)  # rungs after epochs 2 and 6
    rulings = {epoch: [decide(asha, number, epoch, 10.0 * number) for number in (1, 2)] for epoch in range(1, 9)}
    assert [epoch for epoch, (_, worse) in rulings.items() if worse is PRUNE] == [2, 6]
    assert {better for better, _ in rulings.values()} == {CONTINUE}


def test_the_median_rule_stops_a_trial_that_is_behind_the_median_of_three() -> None:
    median = ByMetric(Median(1), METRIC)
    for number, value in enumerate([10.0, 20.0, 30.0]):
        for epoch in (1, 2):
            assert decide(median, number, epoch, value) is CONTINUE
    assert decide(median, 3, 1, 19.0) is CONTINUE
    assert decide(median, 4, 1, 21.0) is PRUNE
    assert decide(median, 5, 1, 99.0, baseline=True) is CONTINUE
    assert decide(median, 5, 2, 98.0, baseline=True) is CONTINUE, (
        "a baseline is never stopped, however often it is behind"
    )


def test_promotion_pauses_a_trial_that_is_not_among_the_best_of_its_rung() -> None:
    rule = build("asha-promote")
    assert isinstance(rule, ByMetric)
    assert decide(rule, 0, 1, 20.0) is PAUSE, "a single trial has no better half"
    assert decide(rule, 1, 1, 10.0) is CONTINUE
    assert decide(rule, 2, 1, 30.0, baseline=True) is CONTINUE
    assert isinstance(rule.rule, Promotion)
    assert rule.rule.paused() == {0: 1}


def test_none_stops_nothing() -> None:
    rule = build("none")
    assert all(decide(rule, number, 3, 9.0 * number) is CONTINUE for number in range(9))


@pytest.mark.parametrize("rule", ["asha", "median", "evidence", "none"])
def test_only_promotion_has_trials_to_promote(rule: str) -> None:
    built = build(rule, {number: record(number, {1: 9.0 * number}) for number in range(9)})
    assert built.promote_next() is None
    assert built.promote_next(closed=True) is None


@pytest.mark.parametrize("rule", [ByMetric(Asha(1, 2), METRIC), ByMetric(Median(1), METRIC)])
def test_a_value_that_is_not_finite_is_not_compared(rule: Rule) -> None:
    assert decide(rule, 0, 1, math.nan) is CONTINUE
    for number in range(1, 4):
        assert decide(rule, number, 1, 5.0) is CONTINUE
    assert decide(rule, 4, 1, math.nan) is CONTINUE
    assert decide(rule, 5, 1, 6.0) is PRUNE


def test_rungs_have_the_trials_of_earlier_sessions_but_no_failed_ones() -> None:
    records = {
        0: record(0, {1: 20.0, 2: 15.0}, TrialState.COMPLETE),
        1: record(1, {1: 30.0}, TrialState.COMPLETE),
        2: record(2, {1: 1.0}, TrialState.FAILED),
        3: record(3, {1: 1.0}, TrialState.INFEASIBLE),
    }
    rule = build("asha", records)
    assert decide(rule, 4, 1, 80.0) is PRUNE
    assert decide(rule, 5, 1, 19.0) is CONTINUE, "it was compared with a failed trial"
    assert decide(rule, 0, 3, 99.0) is CONTINUE, "a trial that continues has passed its rungs before"


def test_values_by_epoch_has_the_epochs_that_reported_the_metric() -> None:
    complete = TrialRecord(
        3,
        TrialState.COMPLETE,
        epochs=(EpochReport(epoch=1, metrics={"other": 5.0}), EpochReport(epoch=2, metrics={METRIC: 4.0})),
    )
    assert values_by_epoch({3: complete, 1: record(1, {1: 2.0})}, METRIC) == {1: {1: 2.0}, 3: {2: 4.0}}


class RecordedStudy:
    """The records of a study's trials, while a single rule decides from the first step to the last."""

    def __init__(self, make: Callable[[dict[int, TrialRecord]], Rule]) -> None:
        self.make, self.rule = make, make({})
        self.values: dict[int, dict[int, float]] = {}
        self.states: dict[int, TrialState] = {}
        self.paused_at: dict[int, int] = {}

    def rebuild(self) -> Rule:
        records = {}
        for number, values in self.values.items():
            fields: dict[str, Any] = {"baseline": number == 0, "paused_at": self.paused_at.get(number)}
            records[number] = record(number, values, self.states[number], **fields)
        return self.make(records)

    def step(self, step: Step) -> None:
        state = self.states.get(step.number, TrialState.RUNNING)
        if state.final:
            return
        if isinstance(step, Failure):
            self.rule.remove(step.number)
            self.states[step.number] = TrialState.INFEASIBLE if step.number % 2 else TrialState.FAILED
        elif state is TrialState.WAITING:
            self.promote(closed=step.epoch % 2 == 0)
        else:
            self.report(step)

    def report(self, report: Report) -> None:
        before = self.rebuild()
        ruling = report.pass_to(self.rule)
        assert report.pass_to(before) is ruling
        kept = {epoch: value for epoch, value in self.values.get(report.number, {}).items() if epoch < report.epoch}
        self.values[report.number] = kept | {report.epoch: report.value}
        self.states[report.number] = TrialState.RUNNING
        assert report.pass_to(self.rebuild()) is ruling, (
            "the epoch was recorded, but a crash followed before its ruling"
        )
        if ruling is PRUNE:
            self.states[report.number] = TrialState.PRUNED
        elif ruling is PAUSE:
            self.states[report.number], self.paused_at[report.number] = TrialState.WAITING, report.epoch

    def promote(self, closed: bool) -> None:
        before = self.rebuild()
        number = self.rule.promote_next(closed)
        assert before.promote_next(closed) == number
        if number is not None:
            self.states[number] = TrialState.RUNNING


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60, deadline=None)
@given(history=histories(), grace_epochs=st.integers(1, 3), reduction=st.integers(2, 4))
def test_a_rule_rebuilt_from_the_records_at_any_step_decides_as_the_original_one(
    rule: str, history: list[Step], grace_epochs: int, reduction: int
) -> None:
    study = RecordedStudy(lambda records: build(rule, records, grace_epochs, reduction))
    for step in history:
        study.step(step)
    for _ in study.states:
        study.promote(closed=True)
