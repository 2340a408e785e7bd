"""The nearest untried training of a point that a sampler drew."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_trials import TINY, make_recorded_table, make_study

from study.replay.candidates import Candidates, locate, measure_distance
from study.search.space import Space

SEARCH: dict[str, Any] = {
    "auxiliary": {"count": [0, 2], "layers": [1, 2, 3]},
    "recipe": {
        "optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]},
        "training.epochs": {"integer": [2, 6]},
        "training.precision": {"choice": ["fp32", "bf16"]},
    },
}
SPACE = Space(make_study(search=SEARCH).search, TINY)
RANGES = Space(make_study().search, TINY)


def point(rate: float = 1e-3, epochs: int = 4, precision: str = "fp32", layer: int | None = None) -> dict[str, Any]:
    content = {"optimiser.learning_rate": rate, "training.epochs": epochs, "training.precision": precision}
    if layer is None:
        return content | {"auxiliary.count": 0}
    return content | {"auxiliary.count": 1, "auxiliary.placement.1": str(layer), "auxiliary.final_weight": 0.6}


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    return measure_distance(locate(SPACE, one), locate(SPACE, other))


def test_ranges_count_as_they_are_drawn() -> None:
    assert distance(point(rate=1e-4), point(rate=1e-3)) == pytest.approx(0.5)
    assert distance(point(epochs=2), point(epochs=4)) == pytest.approx(0.5)


def test_another_choice_is_as_far_as_a_range_is_wide() -> None:
    assert distance(point(), point(precision="bf16")) == 1.0
    assert distance(point(layer=1), point(layer=3)) == 1.0


def test_a_parameter_that_one_point_lacks_counts_as_a_range() -> None:
    assert distance(point(), point(layer=1)) == pytest.approx((0.25 + 1 + 1) ** 0.5)


POINTS = st.builds(
    point,
    st.floats(1e-4, 1e-2),
    st.integers(2, 6),
    st.sampled_from(["fp32", "bf16"]),
    st.sampled_from([None, 1, 2, 3]),
)


@given(one=POINTS, other=POINTS)
def test_a_distance_is_symmetric_and_nothing_to_itself(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert distance(one, other) == distance(other, one) >= 0
    assert distance(one, one) == 0


def test_the_nearest_untried_training_is_taken_and_none_twice() -> None:
    table = make_recorded_table(5)
    candidates = Candidates(RANGES, table.trainings)
    taken = [candidates.take_nearest({"ctc_weight": 0.41}).point["ctc_weight"] for _ in range(5)]
    assert taken == [0.4, 0.6, 0.2, 0.8, 0.0]
    assert len(candidates) == 0
