"""What each rule says after an epoch."""

from __future__ import annotations

import math

import pytest

from study.config.study_file import EarlyStopping
from study.early_stopping.rules import Asha, Median, Never, Promote, Rule, Verdict, rule_of
from study.ledger.records import TrialRecord, TrialState

GO_ON, PRUNE, PAUSE = Verdict.GO_ON, Verdict.PRUNE, Verdict.PAUSE


def say(rule: Rule, number: int, epoch: int, value: float, spared: bool = False, last: bool = False) -> Verdict:
    return rule.verdict(number, epoch, value, spared=spared, last=last)


def record(number: int, *values: float, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    epochs = tuple({"epoch": epoch, "dev/wer": value} for epoch, value in enumerate(values, 1))
    return TrialRecord(number, state, epochs=epochs)


def test_asha_stops_what_is_behind_its_rung() -> None:
    asha = Asha(1, 2)
    assert say(asha, 0, 1, 20.0) is GO_ON
    assert say(asha, 1, 1, 80.0) is PRUNE


@pytest.mark.parametrize("spared", [True, False])
def test_a_baseline_and_a_last_epoch_stop_nothing_but_are_compared_with(spared: bool) -> None:
    asha = Asha(1, 2)
    assert say(asha, 0, 1, 20.0) is GO_ON
    assert say(asha, 1, 1, 90.0, spared=spared, last=not spared) is GO_ON
    assert say(asha, 2, 1, 80.0) is PRUNE


def test_the_median_rule_stops_what_is_behind_the_median_of_three() -> None:
    median = Median(1)
    for number, value in enumerate([10.0, 20.0, 30.0]):
        for epoch in (1, 2):
            assert say(median, number, epoch, value) is GO_ON
    assert say(median, 3, 1, 19.0) is GO_ON
    assert say(median, 4, 1, 21.0) is PRUNE
    assert say(median, 5, 1, 99.0, spared=True) is GO_ON
    assert say(median, 5, 2, 98.0, spared=True) is GO_ON, "a baseline is never stopped, however often the rule says so"


def test_promotion_pauses_at_a_rung_what_is_not_among_the_best() -> None:
    rule = rule_of(EarlyStopping(rule="asha-promote", grace_epochs=1, reduction=2), "dev/wer", {})
    assert isinstance(rule, Promote)
    assert say(rule, 0, 1, 20.0) is PAUSE, "one of one is not the better half"
    assert say(rule, 1, 1, 10.0) is GO_ON
    assert say(rule, 2, 1, 30.0, spared=True) is GO_ON
    assert rule.promotion.paused() == {0: 1}


def test_none_stops_nothing() -> None:
    rule = rule_of(EarlyStopping(rule="none"), "dev/wer", {})
    assert isinstance(rule, Never)
    assert all(say(rule, number, 3, 9.0 * number) is GO_ON for number in range(9))


def test_a_value_that_is_no_number_is_left_to_others() -> None:
    for rule in (Asha(1, 2), Median(1)):
        assert say(rule, 0, 1, math.nan) is GO_ON
        assert say(rule, 1, 1, 5.0) is GO_ON


def test_rungs_remember_earlier_sessions_but_not_failed_trials() -> None:
    records = {0: record(0, 20.0, 15.0), 1: record(1, 30.0), 2: record(2, 1.0, state=TrialState.FAILED)}
    rule = rule_of(EarlyStopping(rule="asha", grace_epochs=1, reduction=2), "dev/wer", records)
    assert say(rule, 3, 1, 80.0) is PRUNE
    assert say(rule, 4, 1, 19.0) is GO_ON, "it was compared with a failed trial"
    assert say(rule, 0, 3, 99.0) is GO_ON, "a trial that goes on met its rungs before"
