"""For the tests of the stopping rules: random histories of a study's trials, their records, steps of a promotion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from study.config.run_settings import EarlyStoppingSettings
from study.early_stopping.promotion import Promotion
from study.early_stopping.rule import Rule, Ruling
from study.ledger.events import EpochReport
from study.ledger.records import TrialRecord, TrialState

METRIC, LAST_EPOCH = "dev/wer", 12


def make_settings(rule: str, grace_epochs: int, reduction: int) -> EarlyStoppingSettings:
    """Settings with these rungs; those of `evidence`, which finds its own, with few trials that run to their end."""
    rungs = {"complete_first": 5} if rule == "evidence" else {"grace_epochs": grace_epochs, "reduction": reduction}
    return EarlyStoppingSettings.model_validate({"rule": rule} | rungs)


@dataclass(frozen=True)
class Report:
    """A trial reports its objective after an epoch; a repeated epoch replaces the later ones."""

    number: int
    epoch: int
    value: float
    baseline: bool = False

    def pass_to(self, rule: Rule) -> Ruling:
        """The rule's ruling on the report."""
        last = self.epoch == LAST_EPOCH
        return rule.decide(self.number, self.epoch, {METRIC: self.value}, baseline=self.baseline, last=last)


@dataclass(frozen=True)
class Failure:
    """A trial fails: it reports no more, and no trial is compared with it."""

    number: int


Step = Report | Failure

# A few values, so that many are equal, and any others; values that are not finite are rare.
VALUES = st.integers(0, 4).map(float) | st.floats(0, 100) | st.sampled_from([math.nan, math.inf, *map(float, range(9))])
JUMPS = st.sampled_from([1, 1, 1, 1, 1, 2, 4, 0, -2])  # in epochs; a resumed trial repeats some, gaps are rare


@st.composite
def histories(draw: st.DrawFn, trials: int = 6) -> list[Step]:
    """Trials that report and fail in any order; 0 is a baseline. Short histories are left out: they decide nothing."""
    steps: list[Step] = []
    reached, failed = dict.fromkeys(range(trials), 0), set()
    drawn = st.tuples(st.integers(0, trials - 1), JUMPS, VALUES, st.integers(0, 40))
    for number, jump, value, fails in draw(st.lists(drawn, min_size=30, max_size=60)):
        if number in failed:
            continue
        if fails == 0:
            failed.add(number)
            steps.append(Failure(number))
            continue
        reached[number] = min(max(reached[number] + jump, 1), LAST_EPOCH)
        steps.append(Report(number, reached[number], value, baseline=number == 0))
    return steps


def record(
    number: int,
    values: Mapping[int, float],
    state: TrialState = TrialState.RUNNING,
    baseline: bool = False,
    paused_at: int | None = None,
) -> TrialRecord:
    """The record of a trial that reported these values, epoch -> value."""
    epochs = tuple(EpochReport(epoch=epoch, metrics={METRIC: value}) for epoch, value in sorted(values.items()))
    named = "ed" if baseline else None
    return TrialRecord(number, state, baseline=named, epochs=epochs, paused_at=paused_at, planned_epochs=LAST_EPOCH)


def continues(
    promotion: Promotion, number: int, epoch: int, value: float, baseline: bool = False, last: bool = False
) -> bool:
    """Report an epoch; false when the trial is paused."""
    ruling = promotion.decide(number, epoch, value, baseline=baseline, last=last)
    assert ruling is not Ruling.PRUNE
    return ruling is Ruling.CONTINUE


def promote_all(promotion: Promotion, closed: bool) -> list[int]:
    """The numbers of all trials that can be promoted now, in order."""
    numbers = []
    while (number := promotion.promote_next(closed)) is not None:
        numbers.append(number)
    return numbers
