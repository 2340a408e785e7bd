from __future__ import annotations

import pytest

from model.training.advice import advise

ADVICE = "train/loss_ctc has not fallen for 3 epochs: lower optimiser.learning_rate or raise loss.ctc_weight"


@pytest.mark.parametrize(
    ("losses", "wer", "advice"),
    [
        ([3.3, 2.9, 2.89, 2.88, 2.9], 100.0, ADVICE),
        ([3.3, 2.9, 2.89, 2.7, 2.9], 100.0, None),
        ([3.3, 2.9, 2.89, 2.88], 100.0, None),
        ([0.1, 0.1, 0.1, 0.1, 0.1], 4.0, None),
    ],
    ids=["stuck", "falling", "too early to say", "trained"],
)
def test_a_ctc_loss_that_does_not_fall_while_ctc_recognises_nothing_gives_advice(
    losses: list[float], wer: float, advice: str | None
) -> None:
    curve = dict(enumerate(losses, start=1))
    assert advise(curve, dict.fromkeys(curve, wer)) == advice


def test_a_record_without_greedy_ctc_gives_none() -> None:
    assert advise({1: 3.0, 2: 3.0, 3: 3.0, 4: 3.0, 5: 3.0}, {}) is None
