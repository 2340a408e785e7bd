"""Promotion in simulated studies: its laws, whatever the values and the order of the trials."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from stopping_history import continues, promote_all

from study.early_stopping.promotion import Promotion

LAST_EPOCH = 9  # with grace 1 or 2 and a reduction of 2 to 4, there are two to four rungs below it


def test_four_trials_and_two_rungs_end_as_computed_by_hand() -> None:
    """Rungs after epochs 1 and 2, one worker; the lower the number, the better."""
    study = SimulatedStudy(grace_epochs=1, reduction=2, values=[10.0, 20.0, 30.0, 40.0], last_epoch=3)
    study.run()
    assert study.started == ["new 0", "new 1", "promoted 0", "new 2", "new 3", "promoted 1", "promoted 0"]
    assert study.ended == [0]
    assert study.promotion.paused() == {1: 2, 2: 1, 3: 1}


@dataclass
class SimulatedStudy:
    """A study with one worker that calls the rule. The ranking of its trials may change from epoch to epoch."""

    grace_epochs: int
    reduction: int
    values: list[float]
    last_epoch: int = LAST_EPOCH
    baselines: int = 0
    fails: frozenset[int] = frozenset()  # after the first epoch beyond a pause
    rebuilt: frozenset[int] = frozenset()  # before these turns the rule is rebuilt from the record
    record: dict[int, dict[int, float]] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    waited: dict[int, int] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.promotion = Promotion(self.grace_epochs, self.reduction)

    def run(self) -> None:
        turn, proposals = 0, iter(range(len(self.values)))
        while True:
            if turn in self.rebuilt:
                self.promotion = self.rebuild()
            turn += 1
            number = self.promotion.promote_next()
            if number is None:
                number = next(proposals, None)
            if number is None:
                number = self.promotion.promote_next(closed=True)
            if number is None:
                return
            self.started.append(f"{'promoted' if number in self.waiting else 'new'} {number}")
            self.waiting.discard(number)
            self.train(number)

    def train(self, number: int) -> None:
        epochs = self.record.setdefault(number, {})
        resumed = bool(epochs)
        while len(epochs) < self.last_epoch:
            epoch = len(epochs) + 1
            if resumed and number in self.fails:
                del self.record[number]
                return self.promotion.remove(number)
            value = epochs[epoch] = self.values[number] + number * epoch % 3
            options: dict[str, Any] = {"baseline": number < self.baselines, "last": epoch == self.last_epoch}
            if not continues(self.promotion, number, epoch, value, **options):
                self.waiting.add(number)
                self.waited[number] = epoch
                return None
        self.ended.append(number)
        return None

    def rebuild(self) -> Promotion:
        return Promotion.rebuild(
            self.grace_epochs,
            self.reduction,
            self.record,
            self.waiting,
            self.waited,
            range(self.baselines),
        )


WORSE = st.integers(0, 5).map(float) | st.just(math.nan)  # few values, so that many are equal
STUDIES = st.fixed_dictionaries(
    {
        "grace_epochs": st.integers(1, 2),
        "reduction": st.integers(2, 4),
        "values": st.lists(WORSE, max_size=14),
        "baselines": st.integers(0, 2),
        "fails": st.frozensets(st.integers(0, 14), max_size=2),
    }
)


@settings(max_examples=200, deadline=None)
@given(given_study=STUDIES, rebuilt=st.frozensets(st.integers(0, 30)))
def test_a_rule_rebuilt_from_the_record_decides_as_one_that_was_never_interrupted(
    given_study: dict[str, Any], rebuilt: frozenset[int]
) -> None:
    uninterrupted, restarted = SimulatedStudy(**given_study), SimulatedStudy(**given_study, rebuilt=rebuilt)
    uninterrupted.run()
    restarted.run()
    assert restarted.started == uninterrupted.started
    assert restarted.ended == uninterrupted.ended
    assert restarted.rebuild().paused() == uninterrupted.promotion.paused()


@settings(max_examples=200, deadline=None)
@given(given_study=STUDIES)
def test_the_best_sampled_trial_of_each_rung_of_a_closed_study_has_continued(given_study: dict[str, Any]) -> None:
    study = SimulatedStudy(**given_study)
    study.run()
    for rung in filter(study.promotion.is_rung, range(1, LAST_EPOCH)):
        sampled = {
            number: epochs[rung]
            for number, epochs in study.record.items()
            if number >= study.baselines and math.isfinite(epochs.get(rung, math.nan))
        }
        if sampled:
            best = min(sampled, key=lambda number: (sampled[number], number))
            assert len(study.record[best]) > rung
    if any(math.isfinite(value) for value in study.values[study.baselines :]) and not study.fails:
        assert any(number >= study.baselines for number in study.ended)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(WORSE, max_size=14), reduction=st.integers(2, 4), closed=st.booleans(), data=st.data())
def test_a_rung_promotes_its_best_trials_and_no_others_in_whatever_order_they_arrived(
    values: list[float], reduction: int, closed: bool, data: st.DataObject
) -> None:
    promotion = Promotion.rebuild(1, reduction, {n: {1: value} for n, value in enumerate(values)}, range(len(values)))
    order = data.draw(st.permutations(range(len(values))))
    other = Promotion.rebuild(1, reduction, {n: {1: values[n]} for n in order}, order)
    ranked = sorted((value, n) for n, value in enumerate(values) if math.isfinite(value))
    expected = [n for _, n in ranked[: max(int(closed), len(ranked) // reduction)]]
    assert promote_all(promotion, closed) == promote_all(other, closed) == expected


@settings(max_examples=200, deadline=None)
@given(values=st.lists(WORSE, max_size=14), reduction=st.integers(2, 4))
def test_every_trial_that_continues_is_among_the_best_at_its_rung_by_then(values: list[float], reduction: int) -> None:
    promotion = Promotion(1, reduction)
    for number, value in enumerate(values):
        continued = [number] if continues(promotion, number, 1, value) else []
        finite = sorted((value, n) for n, value in enumerate(values[: number + 1]) if math.isfinite(value))
        best = [n for _, n in finite[: len(finite) // reduction]]
        continued += promote_all(promotion, closed=False)
        assert set(continued) <= set(best)
        assert not set(promotion.paused()) & set(best)
