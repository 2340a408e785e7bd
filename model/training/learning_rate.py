"""The learning rate: a pure function of the step, the training's progress and the dev sets' error rates so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

from model.recipe.training import OptimiserConfig


def learning_rate(settings: OptimiserConfig, step: int, progress: float, wers: Sequence[float] = ()) -> float:
    """The rate of optimiser step `step` (from 0), when a share `progress` (0 to 1) of the training is done.

    With `warmup`, the rate reaches `learning_rate` when that share is done, and decays over the rest. With
    `warmup_steps`, decay starts at once and the lower of both counts. Linear and cosine decay follow progress, not
    steps: the number of steps in an epoch is not known before the epoch is planned. `wers` are what plateau follows,
    the dev/wer of each epoch that `ends_after_warm_up`.
    """
    if settings.warmup_steps is not None:
        warm_up = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        return settings.learning_rate * min(warm_up, _decay(settings, step, progress, wers))
    if progress < settings.warmup:
        return settings.learning_rate * progress / settings.warmup
    after_warm_up = (progress - settings.warmup) / (1.0 - settings.warmup)
    return settings.learning_rate * _decay(settings, step, after_warm_up, wers)


def _decay(settings: OptimiserConfig, step: int, progress: float, wers: Sequence[float]) -> float:
    """The share of the rate that is left."""
    match settings.decay:
        case "linear":
            return settings.floor + (1.0 - settings.floor) * (1.0 - progress)
        case "cosine":
            return settings.floor + (1.0 - settings.floor) * (0.5 + 0.5 * math.cos(math.pi * progress))
        case "noam":
            return max(settings.floor, noam_decay(settings.warmup_steps or 1, step))
        case "plateau":
            return max(settings.floor, plateau_decay(settings, wers))
        case "none":
            return 1.0


def noam_decay(warmup_steps: int, step: int) -> float:
    """The inverse square root of the steps, 1 at the last one of the warm-up.

    Vaswani et al. 2017 (arXiv 1706.03762), section 5.3, equation 3, whose peak is (D warmup_steps)^-0.5. Here the peak
    is the recipe's `learning_rate`, so that it means the same in every decay.
    """
    return math.sqrt(warmup_steps / (step + 1))


def plateau_decay(settings: OptimiserConfig, wers: Sequence[float]) -> float:
    """`plateau_factor` for each time that dev/wer had not fallen for `plateau_patience` epochs in a row.

    As torch's ReduceLROnPlateau, whose `patience` is one less: the number of such epochs that it allows.
    """
    lowest, without, decay = math.inf, 0, 1.0
    for wer in wers:
        if wer < lowest * (1.0 - settings.plateau_threshold):
            lowest, without = wer, 0
        else:
            without += 1
        if without == settings.plateau_patience:
            decay, without = decay * settings.plateau_factor, 0
    return decay


def ends_after_warm_up(settings: OptimiserConfig, step: int, progress: float) -> bool:
    """Whether an epoch counts for plateau that ended after so many steps and this share of the training.

    The first one that does has nothing to compare with, so that no epoch of the warm-up lowers the rate.
    """
    return step >= settings.warmup_steps if settings.warmup_steps is not None else progress >= settings.warmup
