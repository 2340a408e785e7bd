"""Which metric at which epoch is shown to rank trials as their ends do."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.evidence.rungs import CHECK_EVERY, MOST, choose_unselected, find_evidence, is_figure

Trials = list[dict[int, dict[str, float]]]
NOISES = st.integers(0, 10**6)


def make_trials(count: int, seed: int = 0, noise: Mapping[str, float] | None = None) -> Trials:
    """Three epochs; at the first two each metric is the end and noise of this many times its spread."""
    rng = np.random.default_rng(seed)
    noise = {"dev/wer": 1e9, "train/loss_ctc": 0.05} if noise is None else noise
    trials = []
    for end in rng.normal(size=count):
        early = [{name: float(end + size * rng.normal()) for name, size in noise.items()} for _ in range(2)]
        trials.append({1: early[0], 2: early[1], 3: {"dev/wer": float(end)}})
    return trials


def test_the_metric_that_ranks_as_the_end_does_is_found_and_shown() -> None:
    found = find_evidence(make_trials(20), "dev/wer")
    assert sorted(found) == [1, 2]
    assert {evidence.metric for evidence in found.values()} == {"train/loss_ctc"}
    assert all(evidence.is_shown and 0 < evidence.low < evidence.rho < evidence.high for evidence in found.values())


def test_the_evidence_reads_as_a_sentence() -> None:
    trials = [{1: {"dev/wer": float(n)}, 2: {"dev/wer": float(n)}} for n in range(12)]
    assert str(find_evidence(trials, "dev/wer")[1]).startswith(
        "dev/wer at epoch 1 ranks 12 trials as the end does with rho 1.00 [0.9"
    )


def test_where_all_metrics_are_noise_something_is_shown_in_a_fiftieth_of_all_looks() -> None:
    """However many metrics are looked at; of 300 looks, 1 to 15 agree with 2 %."""
    noise = {"dev/wer": 1e9, **{f"dev/set-{i}/wer": 1e9 for i in range(15)}}
    shown = 0
    for seed in range(300):
        found = find_evidence(make_trials(12, seed, noise), "dev/wer")
        shown += any(evidence.is_shown for evidence in found.values())
    assert 1 <= shown <= 15


@pytest.mark.parametrize("count", [0, 1, 4])
def test_of_fewer_than_five_trials_nothing_is_said(count: int) -> None:
    assert find_evidence(make_trials(count), "dev/wer") == {}


def test_few_trials_make_the_interval_wide() -> None:
    evidence = [find_evidence(make_trials(count), "dev/wer")[1] for count in (6, 12, 24, 48)]
    lows = [found.low for found in evidence]
    assert lows == sorted(lows)
    assert lows[0] < 0.8 < 0.9 < lows[-1]


def test_the_objective_is_taken_where_another_metric_is_no_better() -> None:
    found = find_evidence(make_trials(12, noise={"dev/cer": 0.0, "dev/wer": 0.0}), "dev/wer")
    assert {evidence.metric for evidence in found.values()} == {"dev/wer"}


def test_only_what_every_trial_reported_is_looked_at() -> None:
    """Such as the perplexity of a classifier that some trials do not have."""
    trials = make_trials(12, noise={"dev/wer": 1e9, "dev/perplexity_layer_2": 0.0})
    del trials[3][1]["dev/perplexity_layer_2"]
    trials[3][2]["dev/perplexity_layer_2"] = math.nan
    assert {evidence.metric for evidence in find_evidence(trials, "dev/wer").values()} == {"dev/wer"}


def test_trials_without_a_finite_end_are_left_out() -> None:
    trials = make_trials(12)
    trials[0][3]["dev/wer"] = math.nan
    assert {evidence.trials for evidence in find_evidence(trials, "dev/wer").values()} == {11}


def test_equal_ends_have_no_order() -> None:
    trials = make_trials(12)
    for trial in trials:
        trial[3]["dev/wer"] = 7.0
    assert find_evidence(trials, "dev/wer") == {}


def test_seconds_and_rates_are_no_figures() -> None:
    assert is_figure("dev/wer")
    assert is_figure("train/loss_layer_2")
    others = ["dev/seconds", "dev/rtf", "dev/utterances", "train/seconds", "train/learning_rate", "epoch", "test/t/wer"]
    assert not any(map(is_figure, others))


@settings(max_examples=30, deadline=None)
@given(seed=NOISES)
def test_only_the_order_counts_and_not_that_of_the_trials(seed: int) -> None:
    trials = make_trials(9, seed, {"dev/wer": 1.0, "train/loss": 0.5})
    grown = [{at: {k: math.exp(v) for k, v in row.items()} for at, row in trial.items()} for trial in trials]
    assert find_evidence(grown, "dev/wer") == find_evidence(trials, "dev/wer")
    turned = find_evidence(trials[::-1], "dev/wer")
    for epoch, evidence in find_evidence(trials, "dev/wer").items():
        assert turned[epoch].rho == pytest.approx(evidence.rho)


def test_trials_after_the_first_stop_count_only_as_baselines_and_checks() -> None:
    check = 2 * CHECK_EVERY - 1
    assert choose_unselected(range(40), [], [], 5) == list(range(40))
    assert choose_unselected({*range(12), 13, 15, check}, [12, 14], [15], 5) == [*range(12), 15, check]
    assert choose_unselected({*range(8)} - {2}, [2], [], 5) == [0, 1, 3, 4], "the first run to their end in any case"


def test_the_newest_trials_are_looked_at() -> None:
    assert choose_unselected(range(500), [], [], 5) == list(range(500 - MOST, 500))
