"""What a person has ordered decides at a trial's next report, whatever the stopping rule says."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from study.early_stopping.rule import Ruling
from study.execution.tune_callbacks import RuleScheduler
from study.execution.tune_guard import FirstError
from study.workers.driver import MESSAGE, TRIAL
from study.workers.failure import FailureKind
from study.workers.messages import Report, Task, TrialConfig

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
ORDERS = {
    "stop": (Ruling.PRUNE, "stopped by ada"),
    "pause": (Ruling.INTERRUPT, "paused by ada"),
    "promote": (Ruling.CONTINUE, "promoted by ada"),
}


class Orders:
    """A listener with orders for every trial."""

    def __init__(self, orders: list[tuple[Ruling, str]]) -> None:
        self._orders = orders

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: None

    def is_stopping(self) -> bool:
        return False

    def find_orders(self, number: int) -> list[tuple[Ruling, str]]:
        return self._orders


class FixedRule:
    """A rule with one ruling, which keeps what a person decided against it."""

    def __init__(self, ruling: Ruling) -> None:
        self._ruling = ruling
        self.overridden: list[bool] = []

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        return self._ruling

    def explain(self, number: int) -> str | None:
        return None

    def remove(self, number: int) -> None: ...

    def override(self, number: int, ended: bool) -> None:
        self.overridden.append(ended)

    def promote_next(self, closed: bool = False) -> int | None:
        return None


def judge(order: str | None, rule: FixedRule, confirms: bool = False, **metrics: float) -> tuple[str, Any]:
    """Tune's decision on a report after epoch 2, and why the trial was stopped; `order` may name several."""
    listener = Orders([ORDERS[name] for name in (order or "").split()])
    scheduler = RuleScheduler(listener, rule, "dev/wer", FirstError(listener))
    config = TrialConfig(0, Task("{}", "hash", "/folder"), False, confirms)
    result = {MESSAGE: Report({"epoch": 2, "dev/wer": 80.0} | metrics)}
    trial: Any = SimpleNamespace(trial_id="tune-0", config={TRIAL: config})
    return scheduler.on_trial_result(None, trial, result), scheduler.decided.get(0)


RULES_OWN = (
    (Ruling.PRUNE, "dev/wer 80 at epoch 2 is behind its rung"),
    (Ruling.PAUSE, "dev/wer 80 at epoch 2 waits at its rung"),
)


@pytest.mark.parametrize(
    ("order", "ruling", "decision", "decided", "overridden"),
    [
        (None, Ruling.PRUNE, STOP, RULES_OWN[0], []),
        ("stop", Ruling.CONTINUE, STOP, ORDERS["stop"], [True]),
        ("stop", Ruling.PAUSE, STOP, ORDERS["stop"], [True]),
        ("stop", Ruling.PRUNE, STOP, ORDERS["stop"], [True]),
        ("pause", Ruling.CONTINUE, STOP, ORDERS["pause"], []),
        ("pause", Ruling.PRUNE, STOP, RULES_OWN[0], []),
        ("pause", Ruling.PAUSE, STOP, RULES_OWN[1], []),
        ("promote", Ruling.CONTINUE, CONTINUE, None, []),
        ("promote", Ruling.PRUNE, CONTINUE, None, [False]),
        ("promote", Ruling.PAUSE, CONTINUE, None, [False]),
        ("promote pause", Ruling.CONTINUE, STOP, ORDERS["pause"], []),
        ("promote pause", Ruling.PRUNE, STOP, ORDERS["pause"], [False]),
        ("promote pause", Ruling.PAUSE, STOP, ORDERS["pause"], [False]),
    ],
)
def test_an_order_is_followed_whatever_the_rule_says_but_what_the_rule_stops_is_not_paused_instead(
    order: str | None, ruling: Ruling, decision: str, decided: Any, overridden: list[bool]
) -> None:
    rule = FixedRule(ruling)
    assert judge(order, rule) == (decision, decided)
    assert rule.overridden == overridden


def test_a_confirmation_and_a_report_without_the_objective_are_stopped_too() -> None:
    assert judge("stop", FixedRule(Ruling.CONTINUE), confirms=True) == (STOP, ORDERS["stop"])
    assert judge("pause", FixedRule(Ruling.CONTINUE), confirms=True) == (STOP, ORDERS["pause"])


@pytest.mark.parametrize("order", ORDERS)
def test_a_trial_whose_objective_is_not_finite_has_failed_whatever_was_ordered(order: str) -> None:
    decision, decided = judge(order, FixedRule(Ruling.CONTINUE), **{"dev/wer": float("nan")})
    assert (decision, decided[0]) == (STOP, FailureKind.NON_FINITE)


def test_the_final_figures_of_a_trial_are_no_report_to_stop_it_at() -> None:
    assert judge("stop", FixedRule(Ruling.CONTINUE), finished=1.0) == (CONTINUE, None)
