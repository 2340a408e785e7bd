"""A person decides on a trial whatever the rule ruled: the rule then is the one that the records make."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stopping_history import (
    LAST_EPOCH,
    METRIC,
    Failure,
    Report,
    continues,
    histories,
    make_settings,
    promote_all,
    record,
)

from study.early_stopping.promotion import Promotion
from study.early_stopping.rule import Rule, Ruling
from study.early_stopping.rules import build_rule
from study.ledger.records import TrialRecord, TrialState

RULES = st.sampled_from(["asha", "asha-promote", "median", "evidence"])


class Study:
    """Trials that a rule and a person decide on, and their records."""

    def __init__(self, rule: str) -> None:
        self.settings = make_settings(rule, 1, 2)
        self.rule: Rule = build_rule(self.settings, METRIC, {})
        self.values: dict[int, dict[int, float]] = {}
        self.states: dict[int, TrialState] = {}
        self.paused: dict[int, int] = {}

    def report(self, step: Report, stops: bool, promoted: set[int]) -> None:
        """A trial reports; a person stops it then, or had promoted it."""
        number = step.number
        if self.states.get(number, TrialState.RUNNING) is not TrialState.RUNNING:
            return
        epochs = self.values.setdefault(number, {})
        for late in [epoch for epoch in epochs if epoch >= step.epoch]:
            del epochs[late]
        epochs[step.epoch] = step.value
        ruling = step.pass_to(self.rule)
        if stops or (number in promoted and ruling is not Ruling.CONTINUE):
            self.rule.override(number, ended=stops)
            ruling = Ruling.PRUNE if stops else Ruling.CONTINUE
        self.states[number] = {Ruling.PRUNE: TrialState.PRUNED, Ruling.PAUSE: TrialState.WAITING}.get(
            ruling, TrialState.RUNNING
        )
        if ruling is Ruling.PAUSE:
            self.paused[number] = step.epoch

    def rebuild(self) -> Rule:
        """The rule of the next session."""
        return build_rule(self.settings, METRIC, self.records())

    def records(self) -> dict[int, TrialRecord]:
        return {
            number: record(number, values, self.states[number], number == 0, self.paused.get(number))
            for number, values in self.values.items()
        }


@settings(max_examples=60, deadline=None)
@given(
    kind=RULES,
    steps=histories(),
    stopped=st.sets(st.integers(0, 59), max_size=4),
    promoted=st.sets(st.integers(1, 5), max_size=3),
)
def test_a_rule_that_people_overrode_rules_as_one_that_is_built_from_the_records(
    kind: str, steps: list[Report | Failure], stopped: set[int], promoted: set[int]
) -> None:
    study = Study(kind)
    reports = [step for step in steps if isinstance(step, Report)]
    assume(reports)
    *past, last = reports
    for index, step in enumerate(past):
        study.report(step, index in stopped, promoted)
    rebuilt = study.rebuild()
    if study.states.get(last.number, TrialState.RUNNING) is TrialState.RUNNING and last.number not in promoted:
        assert last.pass_to(study.rule) is last.pass_to(rebuilt)
    for closed in (False, True):
        assert _promote(study.rule, closed) == _promote(rebuilt, closed)


def _promote(rule: Rule, closed: bool) -> list[int]:
    numbers: list[int] = []
    while (number := rule.promote_next(closed)) is not None and len(numbers) < 10:
        numbers.append(number)
    return numbers


@pytest.mark.parametrize("ended", [True, False])
def test_a_trial_that_a_person_decided_on_is_promoted_by_no_rung_and_keeps_its_place_there(ended: bool) -> None:
    promotion = Promotion(1, 2)
    assert continues(promotion, 0, 1, 10.0) is False
    promotion.override(0, ended)
    assert promote_all(promotion, closed=True) == []
    assert continues(promotion, 1, 1, 20.0) is False
    assert promote_all(promotion, closed=False) == [], "the best of two is the one that a person decided on"
    assert continues(promotion, 2, 1, 5.0), "it is better than both"


def test_a_trial_that_a_person_stopped_is_as_one_that_the_rule_stopped_to_evidence() -> None:
    study = Study("evidence")
    for number in range(10):
        for epoch in range(1, LAST_EPOCH + 1):
            study.report(Report(number, epoch, (10.0 + number) / epoch, number == 0), False, set())
    study.report(Report(11, 1, 30.0), True, set())
    assert study.states[11] is TrialState.PRUNED
    before = study.rebuild()
    later = Report(12, 1, math.nan)
    assert later.pass_to(study.rule) is later.pass_to(before)
