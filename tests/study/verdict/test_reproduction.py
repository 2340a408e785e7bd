"""Trainings that were made again are the same exactly, within chance, or not; false alarms are as rare as stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study.verdict.reproduction import compare_trainings, describe_reproduction, find_margin

WERS = st.lists(st.integers(10, 990).map(lambda tenths: tenths / 10), min_size=1, max_size=5)


def training(*wers: float, dev: float = 30.0) -> dict[str, float]:
    return {f"test/t{number}/wer": wer for number, wer in enumerate(wers)} | {"dev/wer": dev, "dev/wer_final": dev - 1}


def test_equal_figures_of_the_same_seed_are_the_same_whatever_the_other_seeds_give() -> None:
    found = compare_trainings([training(10.0, 20.0)], [training(10.0, 20.0), training(90.0, 90.0)])
    assert found.exact
    assert found.is_same
    assert describe_reproduction(found) == (
        "same: WER on the mean of 2 test sets is 15.00 % here, 15.00 % there; all error rates and perplexities of the "
        "same seed are equal to the last digit"
    )


def test_one_figure_that_differs_is_not_exact() -> None:
    assert not compare_trainings([training(10.0)], [training(10.0, dev=30.001)]).exact
    assert not compare_trainings([training(10.0)], [training(10.0001)]).exact
    assert not compare_trainings([{"dev/seconds": 3.0, "dev/wer": 1.0}], [{"dev/seconds": 3.0, "dev/wer": 2.0}]).exact
    assert compare_trainings([{"dev/seconds": 3.0, "dev/wer": 1.0}], [{"dev/seconds": 9.0, "dev/wer": 1.0}]).exact
    assert compare_trainings([{"dev/rtf_final": 3.0, "dev/wer": 1.0}], [{"dev/rtf_final": 9.0, "dev/wer": 1.0}]).exact


def test_with_one_training_on_each_side_only_equal_figures_are_the_same() -> None:
    found = compare_trainings([training(10.0)], [training(10.1)])
    assert not found.is_same
    assert describe_reproduction(found) == (
        "not the same: WER on t0 is 10.10 % here, 10.00 % there; with one training on each side nothing is known of "
        "chance, so train more here with --seeds 3"
    )


def test_a_new_training_has_to_lie_within_the_spread_of_the_seeds() -> None:
    before = [training(10.0), training(11.0), training(12.0), training(11.0)]
    within, beyond = (compare_trainings(before, [training(wer)]) for wer in (12.5, 14.0))
    assert (within.is_same, beyond.is_same) == (True, False)
    assert describe_reproduction(within) == (
        "same: WER on t0 is 12.50 % here, 11.00 % there (mean of 4 seeds); the difference of +1.50 is within chance "
        "(±2.91, 95 %)"
    )
    assert "the difference of +3.00 is beyond chance (±2.91, 95 %)" in describe_reproduction(beyond)
    assert describe_reproduction(beyond).startswith("not the same: ")


def test_without_test_sets_the_dev_sets_are_compared_by_the_decoding_in_the_end() -> None:
    found = compare_trainings([training(dev=30.0)], [training(dev=31.0)])
    assert (found.label, found.before, found.after) == ("WER on the dev sets", (29.0,), (30.0,))
    found = compare_trainings([{"dev/wer": 30.0}], [training(5.0, dev=31.0)])
    assert (found.before, found.after) == ((30.0,), (31.0,))


def test_trainings_without_the_figure_are_left_out() -> None:
    found = compare_trainings([training(10.0), {"dev/wer": 1.0}, training(12.0)], [training(11.0)])
    assert found.before == (10.0, 12.0)


@given(WERS, WERS)
def test_the_margin_is_that_of_students_test_of_two_groups(before: list[float], after: list[float]) -> None:
    margin = find_margin(before, after)
    freedom = len(before) + len(after) - 2
    assert (margin is None) == (freedom < 1)
    difference = abs(np.mean(after) - np.mean(before))
    if margin and difference:
        moments = [
            value
            for group in (after, before)
            for value in (np.mean(group), np.std(group, ddof=1) if len(group) > 1 else 0.0, len(group))
        ]
        result = stats.ttest_ind_from_stats(*moments)
        assert margin == pytest.approx(stats.t.ppf(0.975, freedom) * difference / abs(result.statistic), rel=1e-6)


def test_in_five_of_a_hundred_cases_chance_alone_is_called_a_difference() -> None:
    random = np.random.default_rng(0)
    draws = [random.normal(12.0, 0.6, 5) for _ in range(2000)]
    alarms = sum(
        not compare_trainings([training(wer) for wer in draw[:4]], [training(draw[4])]).is_same for draw in draws
    )
    assert 70 < alarms < 130
    shifted = sum(
        not compare_trainings([training(wer) for wer in draw[:4]], [training(draw[4] + 6)]).is_same for draw in draws
    )
    assert shifted > 1900
