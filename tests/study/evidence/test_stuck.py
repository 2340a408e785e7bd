from __future__ import annotations

from study.evidence.stuck import describe_stuck, find_advice
from study.ledger.events import EpochReport
from study.ledger.records import TrialRecord

ADVICE = "train/loss_ctc has not fallen for 3 epochs: lower optimiser.learning_rate or raise loss.ctc_weight"


def record(number: int, *losses: float) -> TrialRecord:
    epochs = tuple(
        EpochReport(epoch=epoch, metrics={"train/loss_ctc": loss, "dev/ctc_wer": 100.0})
        for epoch, loss in enumerate(losses, 1)
    )
    return TrialRecord(number, epochs=epochs)


def test_trials_whose_ctc_does_not_learn_are_named_with_what_to_change() -> None:
    stuck, learning = (3.0, 2.9, 2.9, 2.9, 2.9), (3.0, 2.5, 2.0, 1.5)
    assert find_advice(record(1, *stuck)) == ADVICE
    assert describe_stuck([record(1, *stuck), record(2, *learning)]) == [f"trial 0001: {ADVICE}"]
    assert describe_stuck([record(1, *stuck), record(3, *stuck)]) == [f"trials 0001, 0003: {ADVICE}"]
    assert describe_stuck([record(2, *learning)]) == []
