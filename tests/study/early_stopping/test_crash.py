"""A crash between any two steps of a study changes no decision of its stopping rule."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.recipe.files import named_recipe
from study.config.study_file import EarlyStoppingSettings, FailureSettings
from study.early_stopping.promotion import Promotion
from study.early_stopping.rules import build_rule
from study.early_stopping.verdict import Rule, Verdict
from study.execution.agenda import Agenda
from study.ledger.records import TrialState, folded
from study.search.proposal import Proposal

METRIC, LAST_EPOCH = "dev/wer", 5
TINY = named_recipe("tiny", "speech")


class CrashError(Exception):
    """The driver is gone."""


@dataclass
class Driven:
    """A study with one worker, written down step by step; after each of the steps in `crashes` it starts again."""

    values: list[list[float]]  # of each trial, after each epoch
    baselines: int
    rule: EarlyStoppingSettings
    crashes: Collection[int] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)  # what the workers' folders say: the last epoch answered
    steps: int = 0

    def run(self) -> Driven:
        while True:
            try:
                self._session()
                return self
            except CrashError:
                continue

    def _session(self) -> None:
        self.events.append({"kind": "study_started", "time": 0.0})
        records = folded(self.events)
        rule = build_rule(self.rule, METRIC, records)
        agenda = Agenda(self, rule, FailureSettings(), records, clock=lambda: 0.0)
        while (proposal := agenda.next(lambda refused: None)) is not None:
            self._train(proposal, rule, agenda)
        for number in agenda.left_behind():
            self._write("trial_ended", number, state="pruned")

    def _train(self, proposal: Proposal, rule: Rule, agenda: Agenda) -> None:
        number = proposal.number
        self._write("trial_started", number, baseline=proposal.baseline)
        for epoch in range(self.answered.get(number, 0) + 1, LAST_EPOCH + 1):
            value, last = self.values[number][epoch - 1], epoch == LAST_EPOCH
            self._write("trial_epoch", number, epoch=epoch, metrics={METRIC: value})
            verdict = rule.decide(number, epoch, value, baseline=proposal.baseline is not None, last=last)
            if verdict is Verdict.PRUNE:
                self._write("trial_ended", number, state="pruned")
                return agenda.ended(number)
            if verdict is Verdict.PAUSE:
                self._write("trial_paused", number, epoch=epoch)
                agenda.paused(number)
                return self._answer(number, epoch)
            if last:
                self._write("trial_ended", number, state="complete")
                return agenda.ended(number)
            self._answer(number, epoch)
        return None

    def propose(self, infeasible: object, paused: Collection[int] = ()) -> Proposal | None:
        number = len(folded(self.events))
        return self._proposal(number) if number < len(self.values) else None

    def interrupted(self) -> list[Proposal]:
        return [self._proposal(number) for number, record in folded(self.events).items() if not record.state.final]

    def _proposal(self, number: int) -> Proposal:
        return Proposal(number, TINY, {}, "ed" if number < self.baselines else None)

    def _write(self, kind: str, number: int, **fields: Any) -> None:
        self.events.append({"kind": kind, "time": 0.0, "number": number, **fields})
        self._step()

    def _answer(self, number: int, epoch: int) -> None:
        self.answered[number] = epoch
        self._step()

    def _step(self) -> None:
        self.steps += 1
        if self.steps in self.crashes:
            raise CrashError

    def trained(self) -> list[tuple[int, int]]:
        """Every epoch of every trial, in the order of their first reports."""
        told = [(event["number"], event["epoch"]) for event in self.events if event["kind"] == "trial_epoch"]
        return list(dict.fromkeys(told))

    def ends(self) -> dict[int, TrialState]:
        return {number: record.state for number, record in folded(self.events).items()}


VALUES = st.lists(st.integers(0, 4).map(float), min_size=LAST_EPOCH, max_size=LAST_EPOCH)


@pytest.mark.parametrize("name", ["asha", "asha-promote", "median"])
@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=9),
    baselines=st.integers(0, 2),
    grace=st.integers(1, 2),
    reduction=st.integers(2, 3),
    crashes=st.frozensets(st.integers(1, 90), min_size=1, max_size=4),
)
def test_a_study_that_crashed_after_any_step_stops_and_promotes_as_one_that_never_did(
    name: str, values: list[list[float]], baselines: int, grace: int, reduction: int, crashes: frozenset[int]
) -> None:
    rule = EarlyStoppingSettings.model_validate({"rule": name, "grace_epochs": grace, "reduction": reduction})
    whole = Driven(values, baselines, rule).run()
    cut = Driven(values, baselines, rule, crashes).run()
    assert cut.trained() == whole.trained()
    assert cut.ends() == whole.ends()


def after_a_crash(*values: float) -> Promotion:
    """Trial 2 came to the first rung after two others that wait there; then the driver died."""
    return Promotion.rebuild(1, 3, {number: {1: value} for number, value in enumerate(values)}, [0, 1], {0: 1, 1: 1})


def continues(promotion: Promotion, number: int, epoch: int, value: float) -> bool:
    return promotion.decide(number, epoch, value, baseline=False, last=False) is Verdict.CONTINUE


def test_a_trial_whose_report_was_not_answered_is_decided_when_it_reports_again() -> None:
    promotion = after_a_crash(10.0, 20.0, 30.0)
    assert promotion.promote_next() == 0
    assert not continues(promotion, 2, 1, 30.0)
    assert promotion.paused() == {1: 1, 2: 1}


def test_a_trial_whose_report_was_answered_reports_the_next_epoch_and_continues() -> None:
    promotion = after_a_crash(10.0, 20.0, 30.0)
    assert continues(promotion, 2, 2, 30.0)
    assert promotion.paused() == {0: 1, 1: 1}


def test_a_trial_that_was_the_best_at_the_crash_continues_and_waits_where_better_ones_came_in_between() -> None:
    assert continues(after_a_crash(20.0, 30.0, 10.0), 2, 1, 10.0)
    promotion = after_a_crash(20.0, 30.0, 10.0)
    assert continues(promotion, 3, 1, 5.0)
    assert not continues(promotion, 2, 1, 10.0)
    assert not any(continues(promotion, number, 1, 40.0) for number in (4, 5))
    assert promotion.promote_next() == 2, "the second of six"


def test_a_trial_that_has_not_reported_again_is_compared_with_but_never_promoted() -> None:
    promotion = after_a_crash(20.0, 10.0, 30.0)
    for number in (3, 4, 5):
        assert not continues(promotion, number, 1, 40.0)
    assert [promotion.promote_next() for _ in range(3)] == [1, 0, None]
    promotion.remove(2)
    assert not continues(promotion, 6, 1, 50.0)
