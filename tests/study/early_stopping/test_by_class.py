"""Where a study compares classes of recipes, a trial is compared with those of its class alone."""

from __future__ import annotations

from typing import Any

import pytest

from study.config.run_settings import EarlyStoppingSettings
from study.early_stopping.rule import Rule, Ruling
from study.early_stopping.rules import build_rule
from study.ledger.events import TrialEnded, TrialEpoch, TrialStarted, TrialState
from study.ledger.trials import Trials

CLASSES = ("decred", "ed")
RUNGS: dict[str, Any] = {"grace_epochs": 2, "reduction": 2}
LAST = 4


class Study:
    """Trials of two classes in turn; those of `decred` have twice the WER of those of `ed`."""

    def __init__(self, rule: str, classes: tuple[str, ...] = CLASSES) -> None:
        own = {"complete_first": 5} if rule == "evidence" else RUNGS
        self.settings = EarlyStoppingSettings.model_validate(own | {"rule": rule})
        self.classes, self.trials = classes, Trials()
        self.rule: Rule = build_rule(self.settings, "dev/wer", self.trials, classes)

    def train(self, number: int, name: str, wer: float) -> Ruling:
        """The rule's last ruling on a trial."""
        self.trials.apply(TrialStarted(number=number, recipe_class=name, epochs=LAST))
        for epoch in range(1, LAST + 1):
            metrics = {"dev/wer": wer / epoch}
            self.trials.apply(TrialEpoch(number=number, epoch=epoch, metrics=metrics))
            ruling = self.rule.decide(number, epoch, metrics, baseline=False, last=epoch == LAST)
            if ruling is not Ruling.CONTINUE:
                self.trials.apply(TrialEnded(number=number, state=TrialState.PRUNED))
                return ruling
        self.trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE))
        return Ruling.CONTINUE

    def train_all(self, count: int) -> dict[str, list[Ruling]]:
        """The rulings on ever better trials of both classes."""
        rulings: dict[str, list[Ruling]] = {name: [] for name in CLASSES}
        for number in range(count):
            name = CLASSES[number % 2]
            rulings[name].append(self.train(number, name, (60.0 - number) * (2 if name == "decred" else 1)))
        return rulings


@pytest.mark.parametrize("rule", ["asha", "asha-promote", "median", "evidence"])
def test_no_trial_is_stopped_because_the_other_class_is_better(rule: str) -> None:
    """Each trial is the best of its class so far, so within its class it has no reason to be stopped."""
    rulings = Study(rule).train_all(24)
    allowed = 1 if rule == "asha-promote" else 0  # the first at a rung waits for others
    assert sum(ruling is not Ruling.CONTINUE for ruling in rulings["decred"]) <= allowed
    if rule != "asha-promote":
        together = Study(rule, ()).train_all(24)
        assert any(ruling is not Ruling.CONTINUE for ruling in together["decred"]), "compared with all it is"


@pytest.mark.parametrize("rule", ["asha", "median", "evidence"])
def test_a_rule_that_is_rebuilt_compares_within_classes_too(rule: str) -> None:
    study = Study(rule)
    study.train_all(24)
    for name, wer in (("decred", 200.0), ("decred", 20.0), ("ed", 100.0), ("ed", 10.0)):
        number = len(study.trials)
        rebuilt = build_rule(study.settings, "dev/wer", study.trials, CLASSES)
        study.trials.apply(TrialStarted(number=number, recipe_class=name, epochs=LAST))
        for epoch in range(1, LAST + 1):
            metrics = {"dev/wer": wer / epoch}
            ours, theirs = (
                one.decide(number, epoch, metrics, baseline=False, last=False) for one in (study.rule, rebuilt)
            )
            assert ours is theirs
            study.trials.apply(TrialEpoch(number=number, epoch=epoch, metrics=metrics))


def test_a_trial_of_no_class_of_the_question_is_compared_with_nothing() -> None:
    study = Study("asha")
    study.train_all(8)
    assert study.train(8, "interctc", 1000.0) is Ruling.CONTINUE
