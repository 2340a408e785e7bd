"""The check that the other tests here rely on refuses what it has to refuse."""

from __future__ import annotations

import pytest
from chaos.epoch_order import assert_trained_once

from study.ledger.events import (
    AnyEvent,
    SessionStarted,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)

START, SESSION = TrialStarted(number=0), SessionStarted()
RETRY, PAUSE = TrialRetried(number=0, count=1), TrialPaused(number=0, epoch=2)
STOP = TrialEnded(number=0, state=TrialState.INTERRUPTED)
END = TrialEnded(number=0, state=TrialState.COMPLETE)


def report(*epochs: int, number: int = 0) -> list[AnyEvent]:
    return [TrialEpoch(number=number, epoch=epoch) for epoch in epochs]


@pytest.mark.parametrize(
    "events",
    [
        [SESSION, START, *report(1, 2), RETRY, START, *report(3), END],
        [SESSION, START, *report(1, 2), RETRY, START, *report(2, 3), END],
        [SESSION, START, *report(1), STOP, StudyInterrupted(), SESSION, START, *report(1, 2), END],
        [SESSION, START, *report(1, 2), SESSION, START, *report(2), SESSION, START, *report(2, 3), END, SESSION],
        [SESSION, START, *report(1, 2), PAUSE, START, *report(3), END],
    ],
)
def test_the_last_epoch_may_be_reported_again_once_after_a_loss(events: list[AnyEvent]) -> None:
    assert_trained_once(events)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([SESSION, START, *report(2)], "trial 0: epoch 2 after 0"),
        ([SESSION, START, *report(1, 1)], "trial 0: epoch 1 after 1"),
        ([SESSION, START, *report(1, 3)], "trial 0: epoch 3 after 1"),
        ([SESSION, START, *report(1, 2), RETRY, START, *report(1)], "trial 0: epoch 1 after 2"),
        ([SESSION, START, *report(1, 2), SESSION, START, *report(2, 2)], "trial 0: epoch 2 after 2"),
        ([SESSION, START, *report(1, 2), PAUSE, START, *report(2)], "trial 0: epoch 2 after 2"),
        ([SESSION, START, *report(1), TrialRetried(number=1, count=1), *report(1)], "trial 0: epoch 1 after 1"),
        ([SESSION, START, *report(1), END, SESSION, START], "trial 0 had ended"),
    ],
)
def test_training_that_begins_again_skips_or_repeats_an_epoch_is_refused(events: list[AnyEvent], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_trained_once(events)
