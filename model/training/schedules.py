"""What else changes from step to step: the weights of the loss, and the layers that a step skips; from epoch to epoch,
what the learning rate's plateau follows.

Weights are pure functions of the training's progress. Which layers are skipped is drawn from the run's seed and the
step's number alone, so that all ranks, and all parts of a batch, skip the same: a batch in parts takes the step of the
whole, and no rank waits for one that computes more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

from model.network.recogniser import Recogniser
from model.recipe.architecture import LossConfig, LossScheduleConfig
from model.training.learning_rate import ends_after_warm_up
from model.training.run import TrainingRun


def schedule_change(settings: LossScheduleConfig, progress: float) -> float:
    """How much of the change is complete when a share `progress` (0 to 1) of the training is done: 0 to 1."""
    share = min(max((progress - settings.start) / (settings.stop - settings.start), 0.0), 1.0)
    return share if settings.shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * share)


def auxiliary_factor(loss: LossConfig, progress: float) -> float:
    """What the weights of auxiliary classifiers are multiplied by, from 1 to the schedule's `auxiliary`."""
    return 1.0 - (1.0 - loss.schedule.auxiliary) * schedule_change(loss.schedule, progress)


def ctc_weight(loss: LossConfig, progress: float) -> float:
    """a in L = a L_CTC + (1 - a) sum_i w_i L_i."""
    end = loss.schedule.ctc_weight
    if end is None:
        return loss.ctc_weight
    change = schedule_change(loss.schedule, progress)
    return (1.0 - change) * loss.ctc_weight + change * end


def list_scheduled(loss: LossConfig, progress: float) -> dict[str, float]:
    """The weights that the recipe's schedule changes, as metrics."""
    weights: dict[str, float] = {}
    if loss.schedule.auxiliary != 1.0 and loss.auxiliary.placement:
        weights["train/auxiliary_factor"] = auxiliary_factor(loss, progress)
    if loss.schedule.ctc_weight is not None:
        weights["train/ctc_weight"] = ctc_weight(loss, progress)
    return weights


def draw_skipped_layers(layers: int, probability: float, draw: str) -> frozenset[int]:
    """The layers (1 = first) that a step skips, each with this probability, drawn by the name `draw`."""
    generator = random.Random(draw)
    return frozenset(number for number in range(1, layers + 1) if generator.random() < probability)


def schedule_step(model: Recogniser, seed: int, step: int, progress: float) -> None:
    """Set the loss weights of an optimiser step in the model, and which layers it skips.

    All are numbers on the host: no device is waited for. What the recipe leaves constant is not touched.
    """
    loss, encoder, decoder = model.recipe.loss, model.recipe.encoder, model.recipe.decoder
    if list_scheduled(loss, progress):
        model.auxiliary_factor, model.ctc_weight = auxiliary_factor(loss, progress), ctc_weight(loss, progress)
    if encoder.layer_drop:
        draw = f"{seed}/{step}/encoder layers"
        model.encoder.skipped = draw_skipped_layers(encoder.layers, encoder.layer_drop, draw)
    if decoder.layer_drop:
        draw = f"{seed}/{step}/decoder layers"
        model.decoder.skipped = draw_skipped_layers(decoder.layers, decoder.layer_drop, draw)


def record_wer(run: TrainingRun, scores: Mapping[str, float]) -> None:
    """Keep the dev/wer of the epoch that has ended where the learning rate follows it; the same on all ranks."""
    settings, state = run.recipe.optimiser, run.state
    progress = state.epoch / run.recipe.training.epochs
    if settings.decay == "plateau" and ends_after_warm_up(settings, state.step, progress):
        run.state = replace(state, plateau_wers=[*state.plateau_wers, scores["dev/wer"]])
