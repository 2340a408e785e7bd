"""Reports of epochs: figures that are as good as a dict, in a fraction of its memory."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.ledger.epochs import EpochReport, Figures, Seconds, TrialEpoch
from study.ledger.event_lines import from_line, to_line
from study.ledger.trials import Trials

NAMES = [f"dev/set-{number}/wer" for number in range(20)]
VALUES = st.floats(allow_nan=False, allow_infinity=False)
FIGURES = st.dictionaries(st.text(max_size=5), VALUES, max_size=8)


@given(FIGURES, FIGURES)
def test_figures_are_equal_where_their_dicts_are(one: dict[str, float], other: dict[str, float]) -> None:
    assert dict(Figures(one)) == one == Figures(one)
    assert list(Figures(one)) == list(one), "in their order"
    assert (Figures(one) == Figures(other)) is (one == other)
    assert (Figures(one) == other) is (one == other)
    backwards = Figures(dict(reversed(one.items())))
    assert backwards == Figures(one)
    assert hash(backwards) == hash(Figures(one))


@given(FIGURES, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_report_comes_back_from_its_line_with_figures_that_are_not_finite_as_nan(
    figures: dict[str, float], value: float
) -> None:
    event = TrialEpoch(number=3, epoch=2, metrics=figures | {"train/loss": value}, seconds=Seconds(training=1.5))
    read = from_line(to_line(event))
    assert isinstance(read, TrialEpoch)
    assert read.metrics == figures | {"train/loss": math.nan}
    assert json.loads(to_line(event))["metrics"]["train/loss"] is None
    assert read == TrialEpoch(
        time=event.time, number=3, epoch=2, metrics=figures | {"train/loss": math.nan}, seconds=Seconds(training=1.5)
    )


def test_two_folds_of_figures_that_are_nan_are_equal() -> None:
    line = to_line(TrialEpoch(time=1.0, number=0, epoch=1, metrics={"train/loss": math.nan}))
    assert dict(Trials([from_line(line)])) == dict(Trials([from_line(line)]))


def test_a_report_cannot_be_changed() -> None:
    report: Any = EpochReport(epoch=1, metrics={"dev/wer": 40.0})
    with pytest.raises(AttributeError, match="epoch"):
        report.epoch = 2
    with pytest.raises(TypeError, match="does not support item assignment"):
        report.metrics["dev/wer"] = 1.0


def test_reports_in_any_order_of_their_names_share_no_figures() -> None:
    first = EpochReport(epoch=1, metrics={"a": 1.0, "b": 2.0})
    second = EpochReport(epoch=2, metrics={"b": 3.0, "a": 4.0})
    assert (first.metrics["a"], first.metrics["b"], second.metrics["a"], second.metrics["b"]) == (1.0, 2.0, 4.0, 3.0)
    with pytest.raises(KeyError):
        first.metrics["c"]


def test_a_study_keeps_a_report_of_twenty_metrics_in_less_than_a_kilobyte() -> None:
    """Models with dicts take four: 50,000 reports are 200 MB, and were kept twice."""
    lines = [
        to_line(
            TrialEpoch(number=number, epoch=epoch, metrics=dict.fromkeys(NAMES, 0.1 * epoch), node="a", device="cpu")
        )
        for number in range(40)
        for epoch in range(1, 26)
    ]
    Trials(map(from_line, lines[:2]))  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        trials = Trials(map(from_line, lines))
        len(trials)  # adds reports that wait
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(record.epochs) for record in trials.values()) == len(lines)
    assert held / len(lines) < 1000
