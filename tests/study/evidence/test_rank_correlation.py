"""The rank correlation between a rung and the last epoch, and the lines that report it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_events import end_trial, report_epoch
from scipy.stats import rankdata, spearmanr
from typer.testing import CliRunner

from model.recipe.files import named_recipe
from study.cli.main import app
from study.config.study_file import StudyFile
from study.evidence.rank_correlation import describe_rungs, spearman
from study.evidence.rungs import rank_rows
from study.ledger.events import EpochReport
from study.ledger.ledger import Ledger
from study.ledger.packed_epochs import Packer, Unpacker
from study.ledger.records import TrialRecord, TrialState

TIED = st.integers(0, 5).map(float) | st.floats(-1e9, 1e9)
VALUES = st.lists(st.integers(0, 50).map(float), min_size=3, max_size=20, unique=True)


def study(rule: str = "asha", grace: int = 2, reduction: int = 2) -> StudyFile:
    """`evidence` has the default rungs, and finds its own."""
    stopping = {"rule": rule} | ({} if rule == "evidence" else {"grace_epochs": grace, "reduction": reduction})
    search = {"ctc_weight": {"uniform": [0.1, 0.6]}}
    return StudyFile.model_validate({"name": "s", "corpus": "c", "early_stopping": stopping, "search": search})


def trial(number: int, *wers: float, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    epochs = tuple(EpochReport(epoch=epoch, metrics={"dev/wer": wer}) for epoch, wer in enumerate(wers, 1))
    return TrialRecord(number, state, epochs=epochs)


def test_equal_values_share_their_mean_rank() -> None:
    # ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: covariance 4.5, sums of squares 4.5 and 5
    assert spearman([1, 2, 2, 4], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@settings(deadline=None)
@given(values=VALUES)
def test_only_the_order_counts(values: list[float]) -> None:
    assert spearman(values, [math.exp(value / 10) for value in values]) == pytest.approx(1)
    assert spearman(values, [-value for value in values]) == pytest.approx(-1)


@given(st.lists(st.tuples(TIED, TIED), min_size=3, max_size=30))
def test_it_is_that_of_scipy(pairs: list[tuple[float, float]]) -> None:
    early, late = ([pair[place] for pair in pairs] for place in (0, 1))
    rho = spearman(early, late)
    if rho is None:
        assert len(set(early)) == 1 or len(set(late)) == 1
    else:
        assert rho == pytest.approx(float(spearmanr(early, late).statistic), abs=1e-12)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TIED, min_size=width, max_size=width), min_size=1)))
def test_ranks_are_those_of_scipy_to_the_last_digit(rows: list[list[float]]) -> None:
    assert rank_rows(np.array(rows)).tolist() == rankdata(rows, axis=1).tolist()


@given(
    wers=st.lists(st.lists(st.integers(0, 5).map(float) | st.just(math.nan), max_size=6), max_size=12),
    packed=st.booleans(),
)
def test_the_lines_of_rungs_are_those_of_the_plain_definition(wers: list[list[float]], packed: bool) -> None:
    records = [trial(number, *values) for number, values in enumerate(wers)]
    if packed:
        packer = Packer()
        parts = [packer.pack(record.epochs) for record in records]
        unpacker = Unpacker(packer.figures, packer.names)
        records = [
            replace(record, epochs=unpacker.unpack(record.number, part))
            for record, part in zip(records, parts, strict=True)
        ]
    lines = [line for line in describe_rungs(records, study()) if "as epoch" in line or "as the last epoch" in line]
    assert [line.partition(" [")[0] for line in lines] == list(describe_plainly(wers))


def describe_plainly(wers: list[list[float]]) -> Iterator[str]:
    """At epochs 2 and 4: the trials with a finite figure there and at a later end, and scipy's correlation of them."""
    for rung in (2, 4):
        passed = [one for one in wers if len(one) > rung and math.isfinite(one[rung - 1]) and math.isfinite(one[-1])]
        early, late = [one[rung - 1] for one in passed], [one[-1] for one in passed]
        if len(passed) >= 3 and len(set(early)) > 1 and len(set(late)) > 1:
            ends = {len(one) for one in passed}
            end = f"epoch {ends.pop()}" if len(ends) == 1 else "the last epoch"
            rho = float(spearmanr(early, late).statistic)
            yield f"dev/wer at epoch {rung} ranks {len(passed)} trials as {end} does with rho {rho:.2f}"


@pytest.mark.parametrize(
    ("early", "late"), [([1, 2], [1, 2]), ([], []), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])]
)
def test_too_few_trials_or_equal_values_have_no_correlation(early: list[float], late: list[float]) -> None:
    assert spearman(early, late) is None


@pytest.mark.parametrize("rule", ["asha", "asha-promote", "median", "none"])
def test_every_rung_below_the_last_epoch_has_a_line_whatever_the_rule(rule: str) -> None:
    records = [
        trial(0, 90, 60, 50, 40, 31, 30),
        trial(1, 90, 50, 40, 50, 21, 20),
        trial(2, 90, 40, 30, 60, 11, 10),
        trial(3, 80, 10, state=TrialState.FAILED),
    ]
    assert describe_rungs(records, study(rule)) == [
        "dev/wer at epoch 2 ranks 3 trials as epoch 6 does with rho 1.00",
        "dev/wer at epoch 4 ranks 3 trials as epoch 6 does with rho -1.00",
    ]


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.WAITING])
def test_trials_that_were_stopped_are_left_out_and_the_line_names_that(state: TrialState) -> None:
    records = [trial(0, 3, 3), trial(1, 2, 2), trial(2, 1, 1), trial(3, 9, state=state)]
    (line,) = describe_rungs(records, study(grace=1))
    assert line == "dev/wer at epoch 1 ranks 3 trials that were not stopped as epoch 2 does with rho 1.00"


def test_trials_of_different_length_are_ranked_by_their_own_last_epoch() -> None:
    records = [trial(0, 3, 3), trial(1, 2, 2, 2), trial(2, 1, 1), trial(3, 9)]
    assert describe_rungs(records, study(grace=1, reduction=3)) == [
        "dev/wer at epoch 1 ranks 3 trials as the last epoch does with rho 1.00"
    ]


def test_a_trial_whose_value_is_missing_or_not_finite_is_left_out() -> None:
    records: list[Any] = [trial(0, 3, 3), trial(1, math.nan, 2), trial(2, 1, 1), trial(3, 4, math.nan)]
    assert describe_rungs(records, study(grace=1)) == []
    records.append(TrialRecord(4, TrialState.COMPLETE, epochs=(EpochReport(epoch=1, metrics={"dev/cer": 1.0}),)))
    assert describe_rungs([*records, trial(5, 5, 5), TrialRecord(6, TrialState.COMPLETE)], study(grace=1)) == [
        "dev/wer at epoch 1 ranks 3 trials as epoch 2 does with rho 1.00"
    ]


def test_a_study_without_trials_has_no_line() -> None:
    assert describe_rungs([], study()) == []


def test_status_prints_the_lines_below_the_table(tmp_path: Path) -> None:
    tiny = named_recipe("tiny", "c")
    ledger = Ledger.create_or_open(tmp_path / "s", study(grace=1), tiny, {})
    for number in range(3):
        ledger.start_trial(number, tiny, {}, None)
        for epoch in (1, 2):
            report_epoch(ledger, number, epoch, {"dev/wer": 10.0 * number})
        end_trial(ledger, number, TrialState.COMPLETE)
    printed = CliRunner().invoke(app, ["status", str(tmp_path / "s")], catch_exceptions=False).stdout
    assert printed.splitlines()[-1] == "dev/wer at epoch 1 ranks 3 trials as epoch 2 does with rho 1.00"


def test_a_line_names_the_first_rung_that_is_shown_to_rank_better_than_chance_or_says_that_none_is() -> None:
    ranked = [trial(number, 90 - number % 2, 10 * number + 1, 10 * number) for number in range(12)]
    assert describe_rungs(ranked, study())[-1].startswith(
        "shown to rank better than chance: dev/wer at epoch 2 ranks 12 trials as the end does with rho 1.00 [0."
    )
    chance = [trial(number, 50 + (7 * number) % 12, 50 + (5 * number) % 12, 10 * number) for number in range(8)]
    line = describe_rungs(chance, study("evidence"))[-1]
    assert line.startswith(
        "no metric at any epoch is shown to rank better than chance, so evidence stops nobody; the best: "
    )
