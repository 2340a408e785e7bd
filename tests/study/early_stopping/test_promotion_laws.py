"""Laws of the promotion: a study with one worker, over any values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from promotion_steps import continues, drained

from study.early_stopping.promotion import Promotion

LAST_EPOCH = 9  # with grace 1 or 2 and a reduction of 2 to 4, two to four rungs lie below


def test_four_trials_to_a_rung_of_two_levels_end_as_worked_by_hand() -> None:
    """Rungs after epochs 1 and 2, one worker; the lower the number, the better."""
    study = Simulated(grace_epochs=1, reduction=2, values=[10.0, 20.0, 30.0, 40.0], last_epoch=3)
    study.run()
    assert study.taken == ["new 0", "new 1", "again 0", "new 2", "new 3", "again 1", "again 0"]
    assert study.ended == [0]
    assert study.promotion.paused() == {1: 2, 2: 1, 3: 1}


@dataclass
class Simulated:
    """A study with one worker: what a caller does with the rule. Who is better may change from epoch to epoch."""

    grace_epochs: int
    reduction: int
    values: list[float]
    last_epoch: int = LAST_EPOCH
    baselines: int = 0
    fails: frozenset[int] = frozenset()  # after the first epoch beyond a pause
    rebuilt: frozenset[int] = frozenset()  # before these turns the rule is made again from the record
    record: dict[int, dict[int, float]] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    waited: dict[int, int] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.promotion = Promotion(self.grace_epochs, self.reduction)

    def run(self) -> None:
        turn, proposals = 0, iter(range(len(self.values)))
        while True:
            if turn in self.rebuilt:
                self.promotion = self.again()
            turn += 1
            number = self.promotion.promote_next()
            if number is None:
                number = next(proposals, None)
            if number is None:
                number = self.promotion.promote_next(closed=True)
            if number is None:
                return
            self.taken.append(f"{'again' if number in self.waiting else 'new'} {number}")
            self.waiting.discard(number)
            self.go_on(number)

    def go_on(self, number: int) -> None:
        epochs = self.record.setdefault(number, {})
        again = bool(epochs)
        while len(epochs) < self.last_epoch:
            epoch = len(epochs) + 1
            if again and number in self.fails:
                del self.record[number]
                return self.promotion.remove(number)
            value = epochs[epoch] = self.values[number] + number * epoch % 3
            known: dict[str, Any] = {"baseline": number < self.baselines, "last": epoch == self.last_epoch}
            if not continues(self.promotion, number, epoch, value, **known):
                self.waiting.add(number)
                self.waited[number] = epoch
                return None
        self.ended.append(number)
        return None

    def again(self) -> Promotion:
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
def test_a_rule_made_again_from_the_record_decides_as_one_that_was_never_interrupted(
    given_study: dict[str, Any], rebuilt: frozenset[int]
) -> None:
    whole, halves = Simulated(**given_study), Simulated(**given_study, rebuilt=rebuilt)
    whole.run()
    halves.run()
    assert halves.taken == whole.taken
    assert halves.ended == whole.ended
    assert halves.again().paused() == whole.promotion.paused()


@settings(max_examples=200, deadline=None)
@given(given_study=STUDIES)
def test_the_best_sampled_trial_of_each_rung_of_a_closed_study_has_gone_on(given_study: dict[str, Any]) -> None:
    study = Simulated(**given_study)
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
def test_a_full_rung_lets_its_best_go_on_and_no_more_whatever_order_they_came_in(
    values: list[float], reduction: int, closed: bool, data: st.DataObject
) -> None:
    promotion = Promotion.rebuild(1, reduction, {n: {1: value} for n, value in enumerate(values)}, range(len(values)))
    order = data.draw(st.permutations(range(len(values))))
    other = Promotion.rebuild(1, reduction, {n: {1: values[n]} for n in order}, order)
    ranked = sorted((value, n) for n, value in enumerate(values) if math.isfinite(value))
    expected = [n for _, n in ranked[: max(int(closed), len(ranked) // reduction)]]
    assert drained(promotion, closed) == drained(other, closed) == expected


@settings(max_examples=200, deadline=None)
@given(values=st.lists(WORSE, max_size=14), reduction=st.integers(2, 4))
def test_whoever_goes_on_is_among_the_best_that_the_rung_has_seen_by_then(values: list[float], reduction: int) -> None:
    promotion = Promotion(1, reduction)
    for number, value in enumerate(values):
        went_on = [number] if continues(promotion, number, 1, value) else []
        finite = sorted((seen, n) for n, seen in enumerate(values[: number + 1]) if math.isfinite(seen))
        best = [n for _, n in finite[: len(finite) // reduction]]
        went_on += drained(promotion, closed=False)
        assert set(went_on) <= set(best)
        assert not set(promotion.paused()) & set(best)
