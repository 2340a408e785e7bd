"""Steps of trials through the rungs of a promotion, for its tests."""

from __future__ import annotations

from study.early_stopping.promotion import Promotion
from study.early_stopping.verdict import Verdict


def continues(
    promotion: Promotion, number: int, epoch: int, value: float, baseline: bool = False, last: bool = False
) -> bool:
    """Report an epoch; False: the trial is paused."""
    verdict = promotion.decide(number, epoch, value, baseline=baseline, last=last)
    assert verdict is not Verdict.PRUNE
    return verdict is Verdict.CONTINUE


def arrived(*values: float, reduction: int = 3) -> Promotion:
    """Trials 0, 1, 2, ... came to the first rung with these values."""
    promotion = Promotion(1, reduction)
    for number, value in enumerate(values):
        continues(promotion, number, 1, value)
    return promotion


def drained(promotion: Promotion, closed: bool) -> list[int]:
    numbers = []
    while (number := promotion.promote_next(closed)) is not None:
        numbers.append(number)
    return numbers
