"""Early stopping: after every epoch of a trial, whether it goes on, ends or is paused at a rung.

`asha` and `median` are Ray Tune's own rules, asked on the project's own epoch; `asha-promote` is `promotion`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from study.config.study_file import EarlyStopping
from study.early_stopping.promotion import Promotion
from study.ledger.records import TrialRecord, TrialState

BEYOND_LAST_EPOCH = 10**6


class Verdict(Enum):
    """What a rule says about a trial after an epoch."""

    CONTINUE = "continue"
    PRUNE = "prune"
    PAUSE = "pause"


class Rule(Protocol):
    """Asked once an epoch, for every trial in the order of their reports; values are to be small."""

    def remove(self, number: int) -> None: ...
    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        """`baseline`, which never stops but is compared with; `last`: its training is over."""


class Never:
    def remove(self, number: int) -> None: ...

    """Stops nothing."""

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        return Verdict.CONTINUE


@dataclass(frozen=True)
class _Known:
    """A trial as Tune's rules know it: by the study's number, which stays the same when a study goes on."""

    trial_id: str


class Asha(Never):
    """Tune's stopping ASHA (Li et al. 2020, arXiv 1810.05934): what lags behind its rung when it comes is stopped."""

    def __init__(self, grace_epochs: int, reduction: int) -> None:
        self._scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="value",
            mode="min",
            max_t=BEYOND_LAST_EPOCH,
            grace_period=grace_epochs,
            reduction_factor=reduction,
            # False also lets a rung count once only, so that a trial that goes on at epoch 5 is not put into rung 1.
            stop_last_trials=False,
        )

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        if not math.isfinite(value):
            return Verdict.CONTINUE
        trial: Any = _Known(f"{number:04d}")
        said = self._scheduler._brackets[0].on_result(trial, epoch, -value)
        return Verdict.PRUNE if said == TrialScheduler.STOP and not (baseline or last) else Verdict.CONTINUE


class Median(Never):
    """Tune's median stopping rule (Golovin et al. 2017): ends a trial whose best is behind the median of means."""

    def __init__(self, grace_epochs: int) -> None:
        self._scheduler = MedianStoppingRule(
            time_attr="epoch",
            metric="value",
            mode="min",
            grace_period=grace_epochs,
            min_time_slice=math.inf,  # type: ignore[arg-type]  # it never pauses one for another
        )

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        if not math.isfinite(value):
            return Verdict.CONTINUE
        trial: Any = _Known(f"{number:04d}")
        nobody: Any = None
        self._scheduler._stopped_trials.discard(trial)  # it may say so again of a baseline, or of an earlier session's
        said = self._scheduler.on_trial_result(nobody, trial, {"epoch": epoch, "value": value})
        return Verdict.PRUNE if said == TrialScheduler.STOP and not (baseline or last) else Verdict.CONTINUE


class Promote:
    """`asha-promote`: a trial that reaches a rung waits there, unless it is among the best of it."""

    def __init__(self, promotion: Promotion) -> None:
        self.promotion = promotion

    def remove(self, number: int) -> None:
        self.promotion.gone(number, True)

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        goes_on = self.promotion.reached(number, epoch, value, baseline=baseline, last=last)
        return Verdict.CONTINUE if goes_on else Verdict.PAUSE


def build_rule(settings: EarlyStopping, metric: str, records: Mapping[int, TrialRecord]) -> Rule:
    """The rule of a study, told what earlier sessions measured, so that rungs count those trials too."""
    seen = {number: record.curve(metric) for number, record in records.items() if record.state is not TrialState.FAILED}
    if settings.rule == "asha-promote":
        waiting = [number for number, record in records.items() if record.state is TrialState.WAITING]
        baselines = [number for number, record in records.items() if record.baseline]
        unsure = [number for number, record in records.items() if _may_be_undecided(record)]
        return Promote(Promotion.seen(settings.grace_epochs, settings.reduction, seen, waiting, baselines, unsure))
    rule: Rule = Never()
    if settings.rule == "asha":
        rule = Asha(settings.grace_epochs, settings.reduction)
    elif settings.rule == "median":
        rule = Median(settings.grace_epochs)
    for number, values in sorted(seen.items()):
        for epoch, value in sorted(values.items()):
            rule.decide(number, epoch, value, baseline=True, last=False)
    return rule


def _may_be_undecided(record: TrialRecord) -> bool:
    """Whether the last report of an interrupted trial may have had no answer; one that waited after it was promoted."""
    open_ = record.state in (TrialState.INTERRUPTED, TrialState.RUNNING)
    return open_ and bool(record.epochs) and record.paused_at != record.epoch
