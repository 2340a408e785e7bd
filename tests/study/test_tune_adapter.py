"""The rules by which trials are stopped and told, without a cluster."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from study.tune_adapter import EarlyStopping, Rule, _Searcher, _Teller

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def rule(**changes: Any) -> Rule:
    return Rule(**({"metric": "dev/wer", "mode": "min", "grace_epochs": 1, "reduction": 2} | changes))


def trial(number: int, baseline: str | None = None) -> Any:
    return SimpleNamespace(trial_id=f"tune-{number}", config={"number": number, "baseline": baseline})


def result(epoch: int, wer: float, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "dev/wer": wer, **more}


def test_a_trial_behind_its_rung_is_stopped_and_why_is_kept() -> None:
    asha = EarlyStopping(rule())
    assert asha.on_trial_result(None, trial(0), result(1, 20.0)) == CONTINUE
    assert asha.on_trial_result(None, trial(1), result(1, 80.0)) == STOP
    assert asha.decided == {1: ("pruned", "dev/wer 80 at epoch 1 is behind its rung")}


def test_a_baseline_is_never_stopped_but_others_are_compared_with_it() -> None:
    asha = EarlyStopping(rule())
    assert asha.on_trial_result(None, trial(0, "ed"), result(1, 20.0)) == CONTINUE
    assert asha.on_trial_result(None, trial(1, "decred-paper"), result(1, 90.0)) == CONTINUE
    assert asha.on_trial_result(None, trial(2), result(1, 80.0)) == STOP


def test_a_finishing_trial_is_not_stopped_on_the_last_line() -> None:
    asha = EarlyStopping(rule())
    asha.on_trial_result(None, trial(0), result(4, 20.0))
    assert asha.on_trial_result(None, trial(1), result(4, 80.0, finished=1.0)) == CONTINUE


def test_an_objective_that_is_no_number_ends_the_trial_as_failed() -> None:
    asha = EarlyStopping(rule())
    assert asha.on_trial_result(None, trial(0, "ed"), result(3, math.nan)) == STOP
    assert asha.decided == {0: ("failed", "dev/wer is nan at epoch 3")}


def test_without_a_rule_nothing_is_stopped() -> None:
    free = EarlyStopping(rule(grace_epochs=None))
    for number, wer in enumerate([10.0, 99.0, 100.0]):
        assert all(free.on_trial_result(None, trial(number), result(epoch, wer)) == CONTINUE for epoch in range(1, 99))


def test_rungs_remember_the_trials_of_earlier_sessions() -> None:
    asha = EarlyStopping(rule(seen={0: {1: 20.0, 2: 15.0}, 1: {1: 30.0}}))
    assert asha.on_trial_result(None, trial(2), result(1, 80.0)) == STOP
    assert asha.on_trial_result(None, trial(0), result(3, 99.0)) == CONTINUE, (
        "a trial that goes on met its rungs before"
    )


class Heard:
    def __init__(self) -> None:
        self.ends: list[tuple[int, str, str | None]] = []

    def epoch(self, number: int, metrics: dict[str, float]) -> None: ...

    def ended(self, number: int, state: str, reason: str | None, metrics: dict[str, float]) -> None:
        self.ends.append((number, state, reason))


def test_only_a_trial_that_said_finished_is_complete() -> None:
    heard = Heard()
    teller = _Teller(heard, EarlyStopping(rule()))
    teller.on_trial_result(1, [], trial(0), {"report": result(4, 20.0, finished=1.0)})
    teller.on_trial_complete(1, [], trial(0))
    teller.on_trial_result(1, [], trial(1), {"report": result(2, 20.0)})
    teller.on_trial_complete(1, [], trial(1))
    assert heard.ends == [
        (0, "complete", None),
        (1, "failed", "training ended after epoch 2 without final figures"),
    ]


def test_what_is_handed_to_tune_survives_its_snapshots() -> None:
    pickle.dumps(_Teller(Heard(), EarlyStopping(rule())))
    pickle.dumps(_Searcher(lambda: None))
