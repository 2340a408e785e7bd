"""The Pareto front of two objectives holds the complete trials that no other one dominates, and no other."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.config.study_file import Objective
from study.ledger.pareto import Front, FrontTrial, make_front
from study.ledger.records import TrialRecord, TrialState

TWO = Objective(second="dev/ilm_perplexity")
COMPLETE = TrialState.COMPLETE
FIGURES = st.one_of(st.integers(0, 6).map(float), st.just(math.nan))  # few, so that many are equal
STATES = st.sampled_from([COMPLETE, COMPLETE, COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.RUNNING])


def record(number: int, first: float, second: float, state: TrialState = COMPLETE, **metrics: Any) -> TrialRecord:
    known = {"dev/wer": first, "dev/ilm_perplexity": second} | {f"dev/{name}": value for name, value in metrics.items()}
    return TrialRecord(number, state, metrics=known)


def front_of(records: list[TrialRecord], objective: Objective = TWO) -> Front:
    front = make_front(records, objective)
    assert front is not None
    return front


def numbers(front: Front) -> list[int]:
    return [one.number for one in front.trials]


@given(st.lists(st.tuples(FIGURES, FIGURES, STATES), max_size=14), st.integers(0, 9), st.sampled_from([None, 4.0]))
def test_a_trial_is_on_the_front_exactly_where_it_may_be_and_no_other_one_dominates_it(
    figures: list[tuple[float, float, TrialState]], seed: int, limit: float | None
) -> None:
    objective = TWO if limit is None else Objective(second="dev/ilm_perplexity", limits={"dev/wer": limit})
    records = [record(number, *one) for number, one in enumerate(figures)]
    usable = {
        number: (first, second)
        for number, (first, second, state) in enumerate(figures)
        if state is COMPLETE and math.isfinite(first + second) and (limit is None or first <= limit)
    }

    def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] <= other[0] and one[1] <= other[1] and one != other

    on_front = set(numbers(front_of(records, objective)))
    members = [usable[number] for number in on_front]
    assert on_front <= usable.keys()
    assert not any(dominates(other, usable[number]) for number in on_front for other in usable.values())
    assert all(any(dominates(one, usable[number]) for one in members) for number in usable.keys() - on_front)
    assert (on_front == set()) == (not usable)
    shuffled = list(records)
    random.Random(seed).shuffle(shuffled)
    assert front_of(shuffled, objective) == front_of(records, objective), "the order of trials does not count"


def test_all_trials_of_equal_figures_are_on_the_front_or_none() -> None:
    records = [record(0, 3.0, 5.0), record(1, 5.0, 3.0), record(2, 3.0, 5.0), record(3, 5.0, 5.0), record(4, 5.0, 5.0)]
    assert numbers(front_of(records)) == [0, 2, 1]


def test_a_study_of_one_objective_has_no_front() -> None:
    assert make_front([record(0, 3.0, 5.0)], Objective()) is None


def test_confirmations_and_trials_above_a_limit_are_not_compared() -> None:
    confirmation = TrialRecord(2, COMPLETE, metrics={"dev/wer": 1.0, "dev/ilm_perplexity": 1.0}, confirms=0)
    records = [record(0, 3.0, 5.0, rtf=0.1), record(1, 2.0, 4.0, rtf=0.3), confirmation]
    limited = Objective(second="dev/ilm_perplexity", limits={"dev/rtf": 0.2})
    assert numbers(front_of(records)) == [1]
    assert numbers(front_of(records, limited)) == [0]


def test_a_complete_trial_without_the_second_figure_is_named_and_not_compared() -> None:
    front = front_of([record(0, 3.0, 5.0), record(1, 1.0, math.nan), TrialRecord(2, COMPLETE, metrics={"dev/wer": 1})])
    assert (numbers(front), front.lacking) == ([0], (1, 2))


def test_both_figures_are_of_the_final_decoding_where_trials_are_ranked_by_it() -> None:
    records = [
        record(0, 30.0, 9.0, wer_final=20.0, rtf=0.01, rtf_final=0.5),
        record(1, 31.0, 9.0, wer_final=21.0, rtf=0.02, rtf_final=0.4),
    ]
    front = front_of(records, Objective(second="dev/rtf"))
    assert front.metrics == ("dev/wer_final", "dev/rtf_final")
    assert front.compared == (FrontTrial(0, 20.0, 0.5, True), FrontTrial(1, 21.0, 0.4, True))
    validated = front_of(records, Objective(second="dev/rtf", ranking="validation"))
    assert (validated.metrics, numbers(validated)) == (("dev/wer", "dev/rtf"), [0])


@pytest.mark.parametrize(
    ("second", "expected"),
    [("dev/rtf", ("dev/wer", "dev/rtf")), ("dev/ilm_perplexity", ("dev/wer_final", "dev/ilm_perplexity"))],
)
def test_a_figure_of_a_longer_search_for_a_decoding_never_goes_with_a_rank_of_a_shorter_one(
    second: str, expected: tuple[str, str]
) -> None:
    stages = ({"stage": "start", "metrics": {"dev/wer": 30.0}}, {"stage": "beam 4", "metrics": {"dev/wer": 20.0}})
    metrics = {"dev/wer": 30.0, "dev/wer_final": 20.0, "dev/rtf": 0.1, "dev/rtf_final": 0.4, "dev/ilm_perplexity": 9.0}
    records = [
        TrialRecord(number, COMPLETE, metrics=metrics, decoding_stages=stages[: number + 1]) for number in range(2)
    ]
    front = front_of(records, Objective.model_validate({"second": second}))
    assert front.metrics == expected
    assert front.stage == ("start" if expected[0].endswith("_final") else None)
