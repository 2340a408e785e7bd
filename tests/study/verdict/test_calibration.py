"""Verdicts on simulated studies: how often equal systems are claimed to differ, and how often a difference is found."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_studies import SimulatedStudy

from study.verdict.study_verdict import Verdict, make_verdict
from study.verdict.words import describe_verdict

STUDIES = 400
MOST_FALSE = 29  # of 400 at 5 %: 97.5 % of all such tests have as many or fewer


def verdicts(count: int, **settings: float) -> list[Verdict]:
    random = np.random.default_rng(1)
    found = [make_verdict(SimulatedStudy(random=random, **settings).run()) for _ in range(count)]  # type: ignore[arg-type]
    assert all(found)
    return [verdict for verdict in found if verdict is not None]


@pytest.mark.parametrize(
    "settings",
    [
        {"trials": 8, "seeds": 3},
        pytest.param({"trials": 40, "seeds": 3}, marks=pytest.mark.slow),
        {"trials": 8, "seeds": 6},
        pytest.param({"trials": 16, "seeds": 4, "finalists": 2}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_of_400_studies_of_equal_systems_at_most_29_claim_anything(settings: dict[str, int]) -> None:
    found = verdicts(STUDIES, **settings)
    claims = [verdict for verdict in found if any(judged.is_shown for judged in verdict.judged.values())]
    assert len(claims) <= MOST_FALSE
    assert all("no difference in WER shown" in describe_verdict(one)[0] for one in found if one not in claims)
    luck = np.mean([verdict.first.luck + verdict.second.luck for verdict in found])
    assert luck > 0.5, "what was chosen was lucky, and the verdict says by how much"


def test_studies_on_shuffled_labels_end_with_no_difference_shown() -> None:
    found = verdicts(100, trials=8, seeds=4, effect=3.0, shuffled=True)
    answers = [describe_verdict(one)[0] for one in found]
    shown = [answer for answer in answers if not answer.startswith("verdict: no difference in WER shown between")]
    assert len(shown) <= 9  # at 4 %, 97.5 % of all such tests have as many or fewer


def test_an_effect_of_two_seed_deviations_is_found_in_four_of_five_studies_of_six_seeds() -> None:
    found = verdicts(200, trials=8, seeds=6, effect=2.0)
    right = [one.judged["wer"].is_shown and one.judged["wer"].overall.difference < 0 for one in found]
    assert np.mean(right) >= 0.8
    assert "decred has a lower WER than ed, by" in describe_verdict(found[right.index(True)])[0]


def test_the_interval_covers_the_true_difference_in_95_of_100_studies() -> None:
    found = verdicts(STUDIES, trials=8, seeds=4, effect=1.0)
    true = SimulatedStudy(effect=1.0).true_difference()
    intervals = [one.judged["wer"].overall.interval for one in found]
    assert 0.92 <= np.mean([low <= true <= high for low, high in intervals]) <= 0.98
