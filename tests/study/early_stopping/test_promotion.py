"""A trial continues from a rung when it is among the rung's best, in whatever order trials come to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.early_stopping.promotion import Promotion
from study.early_stopping.verdict import Verdict

LAST_EPOCH = 9  # with grace 1 or 2 and a reduction of 2 to 4, two to four rungs lie below


def continues(
    promotion: Promotion, number: int, epoch: int, value: float, baseline: bool = False, last: bool = False
) -> bool:
    """Report an epoch; False: the trial is paused."""
    verdict = promotion.decide(number, epoch, value, baseline=baseline, last=last)
    assert verdict is not Verdict.PRUNE
    return verdict is Verdict.CONTINUE


def arrived(*values: float, reduction: int = 3) -> Promotion:
    """Trials 0, 1, 2, ... came to the first rung with these values."""
    promotion = Promotion(1, reduction)
    for number, value in enumerate(values):
        continues(promotion, number, 1, value)
    return promotion


def drained(promotion: Promotion, closed: bool) -> list[int]:
    numbers = []
    while (number := promotion.promote_next(closed)) is not None:
        numbers.append(number)
    return numbers


def test_rungs_are_the_grace_epochs_times_powers_of_the_reduction() -> None:
    promotion = Promotion(2, 3)
    assert [epoch for epoch in range(1, 60) if promotion.is_rung(epoch)] == [2, 6, 18, 54]
    assert continues(promotion, 0, 1, 99.0)
    assert not continues(promotion, 0, 2, 50.0)
    assert promotion.paused() == {0: 2}


def test_one_in_as_many_as_the_reduction_goes_on_at_once_if_it_is_the_best() -> None:
    promotion = arrived(30.0, 20.0)
    assert promotion.promote_next() is None
    assert continues(promotion, 2, 1, 10.0)
    assert promotion.paused() == {0: 1, 1: 1}


def test_a_paused_trial_goes_on_when_enough_worse_ones_have_come() -> None:
    promotion = arrived(10.0, 20.0, 30.0)
    assert promotion.promote_next() == 0
    assert promotion.promote_next() is None
    assert promotion.paused() == {1: 1, 2: 1}


def test_the_highest_rung_is_served_first_though_a_lower_one_has_better_values() -> None:
    values = {0: {1: 10.0, 2: 9.0}, 1: {1: 20.0, 2: 19.0}, 2: {1: 5.0}, 3: {1: 30.0}}
    promotion = Promotion.rebuild(1, 2, values, waiting=[0, 1, 2, 3])
    assert promotion.paused() == {0: 2, 1: 2, 2: 1, 3: 1}
    assert drained(promotion, closed=False) == [0, 2]


def test_a_promoted_trial_that_failed_at_an_upper_rung_leaves_its_place_there() -> None:
    promotion = arrived(*range(9))
    assert drained(promotion, closed=False) == [0, 1, 2]
    assert [continues(promotion, number, 3, 9.0 - number) for number in range(3)] == [False, False, True]
    assert promotion.promote_next(closed=True) is None  # the best of the upper rung has gone on
    promotion.remove(2)
    assert promotion.promote_next(closed=True) == 1


def test_baselines_never_pause_but_the_rungs_count_them() -> None:
    promotion = Promotion(1, 3)
    assert continues(promotion, 0, 1, 90.0, baseline=True)
    assert continues(promotion, 1, 1, 80.0, baseline=True)
    assert continues(promotion, 2, 1, 70.0)


def test_where_baselines_take_every_place_the_best_sampled_trial_goes_on_at_the_close() -> None:
    promotion = Promotion(1, 3)
    for number in range(2):
        continues(promotion, number, 1, 10.0, baseline=True)
    for number in range(2, 6):
        assert not continues(promotion, number, 1, 90.0 - number)
    assert promotion.promote_next() is None
    assert drained(promotion, closed=True) == [5]


def test_the_last_epoch_of_a_recipe_is_no_rung_of_its_trial() -> None:
    promotion = arrived(30.0)
    assert continues(promotion, 1, 1, 99.0, last=True)
    assert promotion.paused() == {0: 1}


def test_a_report_that_comes_again_is_decided_with_what_the_rung_has_seen_by_then() -> None:
    promotion = arrived(30.0, 20.0)
    assert continues(promotion, 2, 1, 10.0)
    assert continues(promotion, 2, 1, 10.0)
    assert continues(promotion, 3, 1, 5.0)
    assert not continues(promotion, 2, 1, 10.0)
    assert promotion.paused() == {0: 1, 1: 1, 2: 1}


def test_a_trial_that_was_promoted_from_a_rung_continues_when_it_comes_to_it_again() -> None:
    promotion = arrived(10.0, 20.0, 30.0)
    assert promotion.promote_next() == 0
    assert continues(promotion, 3, 1, 5.0)
    assert continues(promotion, 0, 1, 10.0)


def test_a_report_that_comes_again_takes_back_what_followed_it() -> None:
    promotion = arrived(*range(9))
    assert drained(promotion, closed=False) == [0, 1, 2]
    assert [continues(promotion, number, 3, 9.0 - number) for number in range(3)] == [False, False, True]
    assert continues(promotion, 2, 2, 5.0)  # its last checkpoint was damaged
    assert promotion.promote_next(closed=True) == 1, "the upper rung has seen no better one"


def test_of_equal_values_the_lower_number_goes_on() -> None:
    promotion = arrived(20.0, 20.0, 20.0)
    assert promotion.promote_next() == 0


def test_a_promoted_trial_that_failed_leaves_its_place_to_another() -> None:
    promotion = arrived(20.0, 30.0)
    assert promotion.promote_next(closed=True) == 0
    assert promotion.promote_next(closed=True) is None
    promotion.remove(0)
    assert promotion.promote_next(closed=True) == 1


def test_a_failed_trial_waits_no_more_and_is_compared_with_nothing() -> None:
    promotion = arrived(20.0, 30.0)
    promotion.remove(0)
    assert promotion.paused() == {1: 1}
    assert continues(promotion, 2, 1, 25.0, last=True)
    assert continues(promotion, 3, 1, 24.0), "the best of three"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_never_promoted_nor_counted(value: float) -> None:
    promotion = arrived(value, 20.0, 30.0)
    assert promotion.promote_next() is None
    assert drained(promotion, closed=True) == [1]
    assert promotion.paused() == {0: 1, 2: 1}


def test_a_trial_that_waits_where_no_rung_is_any_more_goes_on_to_the_next_one() -> None:
    promotion = Promotion.rebuild(3, 3, {0: {1: 9.0, 2: 8.0}, 1: {1: 9.0, 2: 8.0, 3: 7.0, 4: 6.0}}, waiting=[0, 1])
    assert promotion.paused() == {0: 0, 1: 3}
    assert promotion.promote_next() == 0
    assert promotion.promote_next() is None


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
