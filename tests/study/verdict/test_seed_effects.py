"""Effects over common seeds: Student's t, guarded claims, and the number of seeds that would show more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from study.verdict.seed_effects import correct_by_holm, count_seeds_needed, judge, measure_effect

WERS = st.lists(st.tuples(st.floats(1, 90), st.floats(1, 90)), min_size=2, max_size=9)


@given(WERS)
def test_the_effect_is_that_of_students_paired_t(pairs: list[tuple[float, float]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    effect = measure_effect("a", first, second)
    assert effect.difference == pytest.approx(np.mean(first) - np.mean(second))
    if effect.deviation > 1e-6:
        expected = stats.ttest_rel(first, second)
        low, high = expected.confidence_interval(0.95)
        assert effect.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert effect.interval == pytest.approx((low, high), rel=1e-6, abs=1e-6)


def test_one_seed_says_nothing_of_chance() -> None:
    effect = measure_effect("a", [20.0], [25.0])
    assert (effect.difference, effect.p, effect.interval) == (-5.0, 1.0, (-math.inf, math.inf))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_raises_every_p_keeps_the_order_and_never_exceeds_bonferronis(p: list[float]) -> None:
    corrected = correct_by_holm(p)
    assert all(one >= raw for one, raw in zip(corrected, p, strict=True))
    assert all(one <= min(1.0, len(p) * raw) + 1e-12 for one, raw in zip(corrected, p, strict=True))
    order = sorted(range(len(p)), key=lambda index: p[index])
    assert [corrected[index] for index in order] == sorted(corrected)


def seeds(**figures: list[float]) -> list[dict[str, float]]:
    return [dict(zip(figures, values, strict=True)) for values in zip(*figures.values(), strict=True)]


def test_nothing_is_shown_of_a_set_where_the_mean_of_all_sets_does_not_differ() -> None:
    first = seeds(a=[10.0, 10.1, 9.9], b=[60.0, 20.0, 40.0])
    second = seeds(a=[12.0, 12.2, 11.8], b=[20.0, 55.0, 30.0])
    judged = judge(first, second, ["a", "b"], 0.05)
    assert judged.effects[0].p < 0.05 < judged.overall.p
    assert not judged.is_shown
    assert judged.shown == []


@given(
    st.lists(st.tuples(st.floats(1, 90), st.floats(1, 90)), min_size=3, max_size=9), st.sampled_from([0.01, 0.04, 0.1])
)
def test_the_overall_interval_excludes_0_exactly_where_a_difference_is_shown(
    pairs: list[tuple[float, float]], level: float
) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    judged = judge(seeds(a=first), seeds(a=second), ["a"], level)
    assume(judged.overall.deviation > 1e-6 and abs(judged.overall.p - level) > 1e-9)
    low, high = judged.overall.interval
    assert (low > 0 or high < 0) == judged.is_shown
    assert judged.overall.coverage == 1 - level


def test_a_set_is_shown_by_its_own_corrected_p_once_the_mean_differs() -> None:
    first = seeds(a=[10.0, 10.2, 9.9, 10.1], b=[30.0, 31.0, 29.0, 30.5])
    second = seeds(a=[12.0, 12.1, 11.9, 12.2], b=[30.2, 30.8, 29.3, 30.4])
    judged = judge(first, second, ["a", "b"], 0.05)
    assert judged.is_shown
    assert [effect.name for effect in judged.shown] == ["a"]
    assert judged.overall.difference == pytest.approx((-2.0 + 30.125 - 30.175) / 2, abs=0.01)


def test_two_seeds_show_nothing_however_large_the_effect() -> None:
    judged = judge(seeds(a=[1.0, 1.1]), seeds(a=[50.0, 50.11]), ["a"], 0.05)
    assert judged.overall.p < 0.01
    assert not judged.is_shown
    assert judged.shown == []


def test_the_seeds_needed_find_the_effect_in_four_of_five_studies() -> None:
    deviation, size = 1.0, 0.5
    needed = count_seeds_needed(deviation, size, 0.05)
    assert needed == 34  # as power tables of the paired t test have it
    drawn = np.random.default_rng(0).normal(size, deviation, (4000, needed))
    found = (stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.03)
    assert count_seeds_needed(100.0, size, 0.05) is None
    assert count_seeds_needed(0.001, size, 0.05) == 3
