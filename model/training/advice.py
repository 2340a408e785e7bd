"""Advice on a training that learns nothing, from its curves alone."""

from __future__ import annotations

from collections.abc import Mapping

EPOCHS = 3
FALL = 0.02  # a smaller share is no fall
STUCK_WER = 95.0  # percent; a trained model's loss falls slowly, too


def advise(losses: Mapping[int, float], wer: Mapping[int, float]) -> str | None:
    """What to change where CTC does not learn: `losses` is train/loss_ctc by epoch, `wer` dev/ctc_wer.

    CTC has not learnt where its loss has not fallen over the last three epochs and its greedy WER is still 95 % or
    more. An attention decoder hardly learns to attend before it has, in as little data as a demo's.
    """
    epochs = sorted(losses.keys() & wer.keys())
    if len(epochs) <= EPOCHS:
        return None
    first, *latest = epochs[-EPOCHS - 1 :]
    fell = min(losses[epoch] for epoch in latest) < (1.0 - FALL) * losses[first]
    if fell or wer[epochs[-1]] < STUCK_WER:
        return None
    return f"train/loss_ctc has not fallen for {EPOCHS} epochs: lower optimiser.learning_rate or raise loss.ctc_weight"
