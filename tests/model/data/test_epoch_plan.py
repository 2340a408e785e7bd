"""What is drawn when in an epoch says nothing about where an utterance stands in its corpus."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.epoch_plan import DataPosition, EpochPlanner, PlannedBatch, choose_share, cut_into_batches

SETS, SPEEDS, UTTERANCES = ("first", "second"), (0.9, 1.1), 12_500
KINDS = list(itertools.product(SETS, SPEEDS))
SECONDS = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.floats(0.1, 30.0), min_size=1, max_size=40)


def make_durations() -> dict[str, float]:
    """50,000 utterances in the order of their manifests: set after set, of each first one speed, then the other.

    Those of the second set are longer.
    """
    draw, durations = random.Random(0), {}
    for set_name, speed in KINDS:
        for number in range(UTTERANCES):
            longest = 10.0 if set_name == "first" else 20.0
            durations[f"{set_name}-{number:05d}_sp{speed}"] = draw.uniform(1.0, longest) / speed
    return durations


DURATIONS = make_durations()


@pytest.fixture(scope="module")
def planner() -> EpochPlanner:
    return EpochPlanner(DURATIONS, 300.0, 10, seed=0)


def split_in_tenths(plan: Sequence[Sequence[str]]) -> list[list[str]]:
    """The utterances of an epoch in the order of their batches, in ten parts of equal size."""
    order = [key for batch in plan for key in batch]
    return [order[tenth * len(order) // 10 : (tenth + 1) * len(order) // 10] for tenth in range(10)]


@pytest.mark.parametrize("epoch", [0, 1])
def test_every_tenth_of_an_epoch_is_drawn_from_the_whole_corpus(planner: EpochPlanner, epoch: int) -> None:
    positions = {key: index / (len(DURATIONS) - 1) for index, key in enumerate(DURATIONS)}
    for tenth in split_in_tenths(planner.plan_pass(epoch)):
        assert sum(positions[key] for key in tenth) / len(tenth) == pytest.approx(0.5, abs=0.03)
        for set_name, speed in KINDS:
            count = sum(key.startswith(set_name) and key.endswith(str(speed)) for key in tenth)
            assert count / len(tenth) == pytest.approx(0.25, abs=0.04), (set_name, speed)


def test_an_epoch_of_many_utterances_has_each_once_in_batches_within_the_limit(planner: EpochPlanner) -> None:
    plan = planner.plan_pass(0)
    assert sorted(key for batch in plan for key in batch) == sorted(DURATIONS)
    assert max(max(DURATIONS[key] for key in batch) * len(batch) for batch in plan) <= 300.0


def test_each_epoch_draws_anew_which_utterances_meet_in_a_batch(planner: EpochPlanner) -> None:
    def neighbours(epoch: int) -> set[tuple[str, str]]:
        return {pair for batch in planner.plan_pass(epoch) for pair in itertools.pairwise(sorted(batch))}

    first, second = neighbours(0), neighbours(1)
    assert len(first & second) < 0.01 * len(first)


def test_more_buckets_have_far_less_padding() -> None:
    padding = []
    for buckets in (1, 2, 10):
        plan = EpochPlanner(DURATIONS, 300.0, buckets, seed=0).plan_pass(0)
        batches = [[DURATIONS[key] for key in batch] for batch in plan]
        padding.append(sum(max(batch) * len(batch) - sum(batch) for batch in batches))
    assert padding[0] > 1.5 * padding[1] > 1.5 * 2 * padding[2]


@given(SECONDS, st.floats(0.5, 60.0), st.integers(1, 12), st.integers(0, 3), st.integers(0, 3))
def test_a_plan_has_every_utterance_once_within_the_limit_or_alone(
    seconds: dict[str, float], limit: float, buckets: int, seed: int, epoch: int
) -> None:
    plan = EpochPlanner(seconds, limit, buckets, seed).plan_pass(epoch)
    assert sorted(key for batch in plan for key in batch) == sorted(seconds)
    assert all(len(batch) == 1 or max(seconds[key] for key in batch) * len(batch) <= limit for batch in plan)


@given(SECONDS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 3), st.randoms())
def test_a_plan_is_a_function_of_seed_and_epoch_whatever_the_order_of_the_corpus_and_of_the_calls(
    seconds: dict[str, float], buckets: int, seed: int, epoch: int, shuffler: random.Random
) -> None:
    keys = list(seconds)
    shuffler.shuffle(keys)
    other = EpochPlanner({key: seconds[key] for key in keys}, 20.0, buckets, seed)
    other.plan_pass(epoch + 1)
    random.seed(shuffler.random())
    assert other.plan_pass(epoch) == EpochPlanner(seconds, 20.0, buckets, seed).plan_pass(epoch)


@given(SECONDS, st.lists(st.one_of(st.none(), st.integers(1, 40)), min_size=1, max_size=8), st.integers(0, 3))
def test_epochs_of_any_length_are_the_passes_over_the_data_one_after_the_other(
    seconds: dict[str, float], lengths: list[int | None], seed: int
) -> None:
    planner = EpochPlanner(seconds, 20.0, 3, seed)
    position, batches = DataPosition(), list[PlannedBatch]()
    for steps in lengths:
        planned, position = planner.plan_epoch(position, steps)
        assert len(planned) == steps or (steps is None and position.batches == 0)
        batches += planned
        passes = [planner.plan_pass(data_pass) for data_pass in range(position.passes)]
        done = [*passes, planner.plan_pass(position.passes)[: position.batches]]
        assert batches == [PlannedBatch(number, ids) for number, plan in enumerate(done) for ids in plan]
        assert position.batches < len(planner.plan_pass(position.passes))


def test_another_seed_or_epoch_has_another_plan() -> None:
    seconds = {str(number): 1.0 + number % 7 for number in range(50)}
    plans = [EpochPlanner(seconds, 20.0, 3, seed).plan_pass(epoch) for seed in range(3) for epoch in range(3)]
    assert len({str(plan) for plan in plans}) == 9, "seed 1's first epoch is not seed 0's second either"


@given(SECONDS, st.floats(0.5, 60.0))
def test_batches_keep_the_order_and_are_as_long_as_the_limit_allows(seconds: dict[str, float], limit: float) -> None:
    batches = list(cut_into_batches(seconds, seconds, limit))
    assert [key for batch in batches for key in batch] == list(seconds)
    for batch, after in itertools.pairwise(batches):
        assert max(seconds[key] for key in [*batch, after[0]]) * (len(batch) + 1) > limit


@given(
    st.sets(st.text("abc", max_size=4), min_size=1),
    st.floats(0.0, 1.0, exclude_min=True),
    st.floats(0.0, 1.0, exclude_min=True),
    st.integers(0, 5),
)
def test_a_larger_share_holds_all_of_a_smaller_one(ids: set[str], one: float, other: float, seed: int) -> None:
    smaller, larger = (choose_share(ids, share, seed) for share in sorted((one, other)))
    assert smaller <= larger <= ids
    assert len(smaller) == max(1, round(min(one, other) * len(ids)))
    assert choose_share(sorted(ids, reverse=True), min(one, other), seed) == smaller
    assert choose_share(ids, 1.0, seed) == ids


def test_another_seed_draws_another_share() -> None:
    ids = [str(number) for number in range(100)]
    assert choose_share(ids, 0.3, 0) != choose_share(ids, 0.3, 1)
