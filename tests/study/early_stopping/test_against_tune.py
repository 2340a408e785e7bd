"""`asha` and `median` decide as Ray Tune's own schedulers do, on random histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from stopping_history import LAST_EPOCH, METRIC, Failure, Report, Step, histories

from study.early_stopping.asha import Asha, cutoff
from study.early_stopping.median import Median
from study.early_stopping.rule import ByMetric, Rule, Ruling

Decide = Callable[[Report], str]  # a scheduler of Tune's, which keeps all earlier reports


def make_tunes_asha(grace_epochs: int, reduction: int) -> Decide:
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="value",
        mode="min",
        max_t=10**6,
        grace_period=grace_epochs,
        reduction_factor=reduction,
        stop_last_trials=False,
    )
    # The only bracket; on_trial_result requires that a controller has added the trial.
    return lambda report: scheduler._brackets[0].on_result(_Trial(report.number), report.epoch, -report.value)


def make_tunes_median(grace_epochs: int) -> Decide:
    scheduler = MedianStoppingRule(
        time_attr="epoch", metric="value", mode="min", grace_period=grace_epochs, min_time_slice=math.inf
    )
    trials = {number: _Trial(number) for number in range(100)}

    def decide(report: Report) -> str:
        trial: Any = trials[report.number]
        scheduler._stopped_trials.discard(trial)  # a baseline continues, and may be stopped again
        return scheduler.on_trial_result(None, trial, {"epoch": report.epoch, "value": report.value})

    return decide


class _Trial:
    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


class TunesRule:
    """Tune's scheduler on the reports in the study's records; it is rebuilt when one of them is replaced."""

    def __init__(self, make: Callable[[], Decide]) -> None:
        self._make, self._decide = make, make()
        self._kept: list[Report] = []

    def decide(self, report: Report) -> Ruling:
        self._keep(lambda kept: kept.number != report.number or kept.epoch < report.epoch)
        if not math.isfinite(report.value):
            return Ruling.CONTINUE
        self._kept.append(report)
        stops = self._decide(report) == TrialScheduler.STOP
        return Ruling.PRUNE if stops and not report.baseline and report.epoch < LAST_EPOCH else Ruling.CONTINUE

    def remove(self, number: int) -> None:
        self._keep(lambda kept: kept.number != number)

    def _keep(self, condition: Callable[[Report], bool]) -> None:
        kept = [report for report in self._kept if condition(report)]
        if len(kept) < len(self._kept):
            self._kept, self._decide = kept, self._make()
            for report in kept:
                self._decide(report)


def assert_equal_rulings(ours: Rule, tunes: TunesRule, history: list[Step]) -> None:
    for index, step in enumerate(history):
        if isinstance(step, Failure):
            ours.remove(step.number)
            tunes.remove(step.number)
        else:
            expected = tunes.decide(step)
            assert step.pass_to(ours) is expected, f"step {index}, {step}"


@settings(max_examples=150, deadline=None)
@given(history=histories(), grace_epochs=st.integers(1, 3), reduction=st.integers(2, 4))
def test_asha_decides_as_tunes_asha(history: list[Step], grace_epochs: int, reduction: int) -> None:
    tunes = TunesRule(lambda: make_tunes_asha(grace_epochs, reduction))
    assert_equal_rulings(ByMetric(Asha(grace_epochs, reduction), METRIC), tunes, history)


@settings(max_examples=150, deadline=None)
@given(history=histories(), grace_epochs=st.integers(1, 4))
def test_median_decides_as_tunes_median_rule(history: list[Step], grace_epochs: int) -> None:
    tunes = TunesRule(lambda: make_tunes_median(grace_epochs))
    assert_equal_rulings(ByMetric(Median(grace_epochs), METRIC), tunes, history)


@pytest.mark.parametrize(
    ("own", "make"), [(Asha(1, 2), lambda: make_tunes_asha(1, 2)), (Median(2), lambda: make_tunes_median(2))]
)
def test_thirty_long_trials_get_the_verdicts_of_tune(own: Asha | Median, make: Callable[[], Decide]) -> None:
    """Long curves of many trials, whose means are rounded, are rare among the random histories."""
    rng = np.random.default_rng(0)
    rule, tunes, stopped = ByMetric(own, METRIC), TunesRule(make), 0
    for epoch in range(1, LAST_EPOCH + 1):
        for number in rng.permutation(30):
            report = Report(int(number), epoch, float(rng.normal(100 / epoch + number, 3)))
            ruling = report.pass_to(rule)
            assert ruling is tunes.decide(report)
            stopped += ruling is Ruling.PRUNE
    assert 30 < stopped < 300


@pytest.mark.parametrize("value", [0.1, 0.3, 1.1, 61.7])
def test_equal_curves_are_stopped_where_tunes_rounded_means_stop_them(value: float) -> None:
    ours, tunes = ByMetric(Median(1), METRIC), TunesRule(lambda: make_tunes_median(1))
    for epoch in range(1, LAST_EPOCH + 1):
        for number in range(5):
            report = Report(number, epoch, value)
            assert report.pass_to(ours) is tunes.decide(report)


@settings(max_examples=150)
@given(rewards=st.lists(st.floats(-100, 0), min_size=1, max_size=40).map(sorted), reduction=st.integers(2, 9))
def test_the_cutoff_is_numpys_percentile_to_the_last_bit(rewards: list[float], reduction: int) -> None:
    assert cutoff(rewards, reduction) == np.nanpercentile(rewards, (1 - 1 / reduction) * 100)
