"""The cost of a ruling does not grow with the number of trials."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from stopping_history import METRIC, make_settings, record

from study.early_stopping.rule import Rule
from study.early_stopping.rules import build_rule
from study.ledger.records import TrialRecord, TrialState


def count_lines(action: Callable[[], object]) -> int:
    """How many lines of Python an action executes; those of comprehensions count once for each element."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def make_records(trials: int) -> dict[int, TrialRecord]:
    """Every fourth trial reached epoch 9, the others are paused after epoch 1."""
    records = {}
    for number in range(trials):
        long = number % 4 == 0
        values = {epoch: 100.0 * number % 997 / epoch for epoch in range(1, 10 if long else 2)}
        state = TrialState.COMPLETE if long else TrialState.WAITING
        records[number] = record(number, values, state, paused_at=None if long else 1)
    return records


def run_trial(rule: Rule, number: int, value: float) -> None:
    """All calls of a rule for one trial."""
    for epoch in (1, 2, 3):
        rule.decide(number, epoch, {METRIC: value / epoch}, baseline=False, last=False)
    rule.promote_next()
    rule.promote_next(closed=True)
    rule.remove(number)


@pytest.mark.parametrize("rule", ["asha", "asha-promote", "median", "evidence", "none"])
def test_a_decision_costs_the_same_after_two_thousand_trials(rule: str) -> None:
    settings = make_settings(rule, 1, 3)
    lines, seconds = {}, math.inf
    for trials in (100, 2000):
        built = build_rule(settings, METRIC, make_records(trials))
        for value in (0.0, 200.0, 400.0, 900.0):  # among the best, and not
            trial = functools.partial(run_trial, built, trials, value)
            lines[trials] = max(lines.get(trials, 0), count_lines(trial))
            start = time.perf_counter()
            trial()
            seconds = min(seconds, time.perf_counter() - start)
    # evidence looks at a hundred others, and weighs every epoch
    most = 2000 if rule == "evidence" else 500
    assert 0 < lines[2000] <= 1.5 * lines[100] < most
    assert seconds < 0.005
