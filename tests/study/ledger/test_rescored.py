"""Which final figures a later decoding has changed, and when: MLflow has to get these again."""

from __future__ import annotations

import math

from study.ledger.events import TrialDecoded, TrialEnded, TrialStarted, TrialState
from study.ledger.trials import Trials

FINAL, TEST = "dev/wer_final", "test/a/wer"


def test_a_decoding_after_the_end_says_when_it_changed_which_figures() -> None:
    ended = TrialEnded(number=0, state=TrialState.COMPLETE, metrics={FINAL: 30.0, "bad": math.nan})
    trials = Trials([TrialStarted(number=0), ended])

    def decode(time: float, metrics: dict[str, float]) -> dict[str, float]:
        trials.apply(TrialDecoded(time=time, number=0, decoding={}, decoding_hash="", metrics=metrics))
        return trials[0].rescored

    assert decode(20.0, {TEST: 9.0, FINAL: 30.0, "bad": math.inf}) == {}, "a new one, and two that are as they were"
    assert decode(30.0, {TEST: 9.0, FINAL: 25.0}) == {FINAL: 30.0}
    assert decode(40.0, {TEST: 8.0, FINAL: 25.0}) == {FINAL: 30.0, TEST: 40.0}
    assert trials[0].final_metrics == {FINAL: 25.0, "bad": math.inf, TEST: 8.0}
    trials.apply(TrialStarted(number=0))
    trials.apply(ended)
    assert trials[0].rescored == {}, "as of a trial that was reopened"
