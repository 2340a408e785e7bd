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
from stopping_history import LAST_EPOCH, Failure, Report, Step, histories

from study.early_stopping.asha import Asha, cutoff
from study.early_stopping.median import Median
from study.early_stopping.verdict import Rule, Verdict

Ask = Callable[[Report], str]  # a scheduler of Tune's, which knows all that it was asked before


def tunes_asha(grace_epochs: int, reduction: int) -> Ask:
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="value",
        mode="min",
        max_t=10**6,
        grace_period=grace_epochs,
        reduction_factor=reduction,
        stop_last_trials=False,
    )
    # Of one bracket; on_trial_result would want each trial to be added by a controller first.
    return lambda report: scheduler._brackets[0].on_result(_Trial(report.number), report.epoch, -report.value)


def tunes_median(grace_epochs: int) -> Ask:
    scheduler = MedianStoppingRule(
        time_attr="epoch", metric="value", mode="min", grace_period=grace_epochs, min_time_slice=math.inf
    )
    trials = {number: _Trial(number) for number in range(100)}

    def ask(report: Report) -> str:
        trial: Any = trials[report.number]
        scheduler._stopped_trials.discard(trial)  # a baseline goes on, and may be stopped again
        return scheduler.on_trial_result(None, trial, {"epoch": report.epoch, "value": report.value})

    return ask


class _Trial:
    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


class TunesRule:
    """Tune's scheduler on the reports that the study's records hold: it is made again where one of them is replaced."""

    def __init__(self, make: Callable[[], Ask]) -> None:
        self._make, self._ask = make, make()
        self._kept: list[Report] = []

    def decide(self, report: Report) -> Verdict:
        self._keep(lambda kept: kept.number != report.number or kept.epoch < report.epoch)
        if not math.isfinite(report.value):
            return Verdict.CONTINUE
        self._kept.append(report)
        stops = self._ask(report) == TrialScheduler.STOP
        return Verdict.PRUNE if stops and not report.baseline and report.epoch < LAST_EPOCH else Verdict.CONTINUE

    def remove(self, number: int) -> None:
        self._keep(lambda kept: kept.number != number)

    def _keep(self, wanted: Callable[[Report], bool]) -> None:
        kept = [report for report in self._kept if wanted(report)]
        if len(kept) < len(self._kept):
            self._kept, self._ask = kept, self._make()
            for report in kept:
                self._ask(report)


def assert_equal_verdicts(ours: Rule, tunes: TunesRule, history: list[Step]) -> None:
    for index, step in enumerate(history):
        if isinstance(step, Failure):
            ours.remove(step.number)
            tunes.remove(step.number)
        else:
            expected = tunes.decide(step)
            assert step.ask(ours) is expected, f"step {index}, {step}"


@settings(max_examples=150, deadline=None)
@given(history=histories(), grace_epochs=st.integers(1, 3), reduction=st.integers(2, 4))
def test_asha_decides_as_tunes_asha(history: list[Step], grace_epochs: int, reduction: int) -> None:
    tunes = TunesRule(lambda: tunes_asha(grace_epochs, reduction))
    assert_equal_verdicts(Asha(grace_epochs, reduction), tunes, history)


@settings(max_examples=150, deadline=None)
@given(history=histories(), grace_epochs=st.integers(1, 4))
def test_median_decides_as_tunes_median_rule(history: list[Step], grace_epochs: int) -> None:
    assert_equal_verdicts(Median(grace_epochs), TunesRule(lambda: tunes_median(grace_epochs)), history)


@pytest.mark.parametrize(
    ("rule", "make"), [(Asha(1, 2), lambda: tunes_asha(1, 2)), (Median(2), lambda: tunes_median(2))]
)
def test_a_study_of_thirty_trials_has_the_same_trials_stopped(rule: Rule, make: Callable[[], Ask]) -> None:
    """What the random histories rarely hold: long curves of many trials, whose means have rounded digits."""
    rng = np.random.default_rng(0)
    tunes, stopped = TunesRule(make), 0
    for epoch in range(1, LAST_EPOCH + 1):
        for number in rng.permutation(30):
            report = Report(int(number), epoch, float(rng.normal(100 / epoch + number, 3)))
            verdict = report.ask(rule)
            assert verdict is tunes.decide(report)
            stopped += verdict is Verdict.PRUNE
    assert 30 < stopped < 300


@pytest.mark.parametrize("value", [0.1, 0.3, 1.1, 61.7])
def test_equal_curves_are_stopped_where_tunes_rounded_means_stop_them(value: float) -> None:
    ours, tunes = Median(1), TunesRule(lambda: tunes_median(1))
    for epoch in range(1, LAST_EPOCH + 1):
        for number in range(5):
            report = Report(number, epoch, value)
            assert report.ask(ours) is tunes.decide(report)


@settings(max_examples=150)
@given(rewards=st.lists(st.floats(-100, 0), min_size=1, max_size=40).map(sorted), reduction=st.integers(2, 9))
def test_the_cutoff_is_numpys_percentile_to_the_last_bit(rewards: list[float], reduction: int) -> None:
    assert cutoff(rewards, reduction) == np.nanpercentile(rewards, (1 - 1 / reduction) * 100)
