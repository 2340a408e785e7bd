"""A crash between any two steps of a study changes no ruling of its stopping rule."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stopping_history import continues, make_settings

from model.recipe.files import named_recipe
from study.config.run_settings import EarlyStoppingSettings, FailureSettings
from study.early_stopping.promotion import Promotion
from study.early_stopping.rule import Rule, Ruling
from study.early_stopping.rules import build_rule
from study.execution.agenda import Agenda
from study.ledger.events import (
    AnyEvent,
    SessionStarted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialStarted,
    TrialState,
)
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.proposal import Proposal

METRIC, LAST_EPOCH = "dev/wer", 5
TINY = named_recipe("tiny", "speech")


class CrashError(Exception):
    """The driver died."""


@dataclass
class CrashingStudy:
    """A study with one worker, recorded step by step; after each of the steps in `crashes` it is restarted."""

    values: list[list[float]]  # of each trial, after each epoch
    baselines: int
    settings: EarlyStoppingSettings
    crashes: Collection[int] = ()
    events: list[AnyEvent] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)  # the last epoch that each worker got an answer to
    steps: int = 0

    def run(self) -> CrashingStudy:
        while True:
            try:
                self._run_session()
                return self
            except CrashError:
                continue

    def _run_session(self) -> None:
        self.events.append(SessionStarted())
        self.trials = Trials(self.events)
        rule = build_rule(self.settings, METRIC, self.trials)
        agenda = Agenda(self.trials, self, self._restore, rule, FailureSettings(), clock=lambda: 0.0)
        while (proposal := agenda.next()) is not None:
            assert isinstance(proposal, Proposal)
            self._train(proposal, rule)
        for number in agenda.never_promoted():
            self._record(TrialEnded(number=number, state=TrialState.PRUNED))

    def _train(self, proposal: Proposal, rule: Rule) -> None:
        number, baseline = proposal.number, proposal.baseline
        self._record(TrialStarted(number=number, baseline=baseline, epochs=LAST_EPOCH))
        for epoch in range(self.answered.get(number, 0) + 1, LAST_EPOCH + 1):
            value, last = self.values[number][epoch - 1], epoch == LAST_EPOCH
            self._record(TrialEpoch(number=number, epoch=epoch, metrics={METRIC: value}))
            ruling = rule.decide(number, epoch, {METRIC: value}, baseline=baseline is not None, last=last)
            if ruling is Ruling.PAUSE:
                self._record(TrialPaused(number=number, epoch=epoch))
                return self._answer(number, epoch)
            if ruling is Ruling.PRUNE or last:
                state = TrialState.PRUNED if ruling is Ruling.PRUNE else TrialState.COMPLETE
                return self._record(TrialEnded(number=number, state=state))
            self._answer(number, epoch)
        return None

    def propose(self, trials: Trials) -> Proposal | None:
        number = trials.next_number
        return Proposal(number, TINY, {}, self._baseline(number)) if number < len(self.values) else None

    def count_remaining(self, trials: Trials) -> int:
        return len(self.values) - trials.next_number

    def confirm(self, trials: Trials) -> None:
        """It asks no question."""

    def count_confirmations(self, trials: Trials) -> int:
        return 0

    def _restore(self, record: TrialRecord) -> Proposal:
        return Proposal(record.number, TINY, {}, record.baseline)

    def _baseline(self, number: int) -> str | None:
        return "ed" if number < self.baselines else None

    def _record(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.trials.apply(event)
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
        reports = [(event.number, event.epoch) for event in self.events if isinstance(event, TrialEpoch)]
        return list(dict.fromkeys(reports))

    def ends(self) -> dict[int, TrialState]:
        return {number: record.state for number, record in Trials(self.events).items()}


VALUES = st.lists(st.integers(0, 4).map(float), min_size=LAST_EPOCH, max_size=LAST_EPOCH)


@pytest.mark.parametrize("name", ["asha", "asha-promote", "median", "evidence"])
@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=9),
    baselines=st.integers(0, 2),
    grace=st.integers(1, 2),
    reduction=st.integers(2, 3),
    crashes=st.frozensets(st.integers(1, 90), min_size=1, max_size=4),
)
def test_a_study_that_crashed_after_any_step_stops_and_promotes_as_one_that_never_crashed(
    name: str, values: list[list[float]], baselines: int, grace: int, reduction: int, crashes: frozenset[int]
) -> None:
    stopping = make_settings(name, grace, reduction)
    uninterrupted = CrashingStudy(values, baselines, stopping).run()
    restarted = CrashingStudy(values, baselines, stopping, crashes).run()
    assert restarted.trained() == uninterrupted.trained()
    assert restarted.ends() == uninterrupted.ends()


def rebuild_after_crash(*values: float) -> Promotion:
    """Trial 2 reported the first rung, where two others are paused; then the driver died."""
    return Promotion.rebuild(1, 3, {number: {1: value} for number, value in enumerate(values)}, [0, 1], {0: 1, 1: 1})


def test_a_trial_whose_report_was_not_answered_is_decided_when_it_reports_again() -> None:
    promotion = rebuild_after_crash(10.0, 20.0, 30.0)
    assert promotion.promote_next() == 0
    assert not continues(promotion, 2, 1, 30.0)
    assert promotion.paused() == {1: 1, 2: 1}


def test_a_trial_whose_report_was_answered_reports_the_next_epoch_and_continues() -> None:
    promotion = rebuild_after_crash(10.0, 20.0, 30.0)
    assert continues(promotion, 2, 2, 30.0)
    assert promotion.paused() == {0: 1, 1: 1}


def test_a_trial_that_was_the_best_at_the_crash_is_paused_where_better_ones_reported_since() -> None:
    assert continues(rebuild_after_crash(20.0, 30.0, 10.0), 2, 1, 10.0)
    promotion = rebuild_after_crash(20.0, 30.0, 10.0)
    assert continues(promotion, 3, 1, 5.0)
    assert not continues(promotion, 2, 1, 10.0)
    assert not any(continues(promotion, number, 1, 40.0) for number in (4, 5))
    assert promotion.promote_next() == 2, "the second of six"


def test_a_trial_that_has_not_reported_again_is_compared_with_but_never_promoted() -> None:
    promotion = rebuild_after_crash(20.0, 10.0, 30.0)
    for number in (3, 4, 5):
        assert not continues(promotion, number, 1, 40.0)
    assert [promotion.promote_next() for _ in range(3)] == [1, 0, None]
    promotion.remove(2)
    assert not continues(promotion, 6, 1, 50.0)
