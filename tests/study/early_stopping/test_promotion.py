"""A trial continues from a rung when it is among the rung's best, in whatever order trials come to it."""

from __future__ import annotations

import math

import pytest
from promotion_steps import arrived, continues, drained

from study.early_stopping.promotion import Promotion


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
