"""Which trials the table has, in which order, and that what is left out is said."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_session import TINY
from rich.console import Console

from model.errors import UserError
from study.config.study_file import StudyFile
from study.display.rows import BEST_SHOWN, Rows, describe_left_out
from study.display.status import print_status
from study.ledger.events import EpochReport, TrialEnded, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

STUDY = StudyFile.model_validate({"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}})


def record(number: int, wer: float | None = None, epochs: int = 0, **fields: object) -> TrialRecord:
    reports = tuple(EpochReport(epoch=epoch + 1) for epoch in range(epochs))
    metrics = {} if wer is None else {"dev/wer": wer}
    return TrialRecord(number, **{"state": TrialState.COMPLETE, "metrics": metrics, "epochs": reports} | fields)  # type: ignore[arg-type]


RECORDS = [
    record(0, 30.0, 3, values={"ctc_weight": 0.5, "auxiliary.placement": "none"}),
    record(1, 10.0, 1, state=TrialState.PRUNED, values={"ctc_weight": 0.1, "auxiliary.placement": "2"}),
    record(2, None, 0, state=TrialState.RUNNING),
    record(3, 20.0, 2, values={"ctc_weight": 0.3, "auxiliary.placement": "1,2"}),
    record(4, math.nan, 1, state=TrialState.FAILED),
]


@pytest.mark.parametrize(
    ("sort", "numbers"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("number", [0, 1, 2, 3, 4]),
        ("state", [2, 0, 3, 1, 4]),
        ("epoch", [0, 3, 1, 4, 2]),
        ("dev/wer", [1, 3, 0, 2, 4]),
        ("WER", [1, 3, 0, 2, 4]),
        ("ctc_weight", [1, 3, 0, 2, 4]),
        ("ctc weight", [1, 3, 0, 2, 4]),
        ("auxiliary.placement", [3, 1, 0, 2, 4]),
        ("placement", [3, 1, 0, 2, 4]),
    ],
)
def test_trials_are_sorted_by_a_column_as_it_is_named_or_headed_and_those_without_a_value_come_last(
    sort: str | None, numbers: list[int]
) -> None:
    assert [one.number for one in Rows(sort).choose(RECORDS, STUDY)] == numbers


def test_an_unknown_column_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"--sort is 'dev/we', which no trial has; did you mean 'dev/wer'\?"):
        Rows("dev/we").choose(RECORDS, STUDY)
    with pytest.raises(UserError, match=r"known: auxiliary.placement, ctc_weight, dev/wer, epoch, number, state"):
        Rows("x").choose(RECORDS, STUDY)


def test_the_top_trials_are_the_first_ones_by_a_column_or_the_best() -> None:
    assert [one.number for one in Rows("ctc_weight", top=2).choose(RECORDS, STUDY)] == [1, 3]
    assert [one.number for one in Rows(top=2).choose(RECORDS, STUDY)] == [3, 0], "only complete trials have a rank"
    assert len(Rows(top=9).choose(RECORDS, STUDY)) == len(RECORDS)


def test_final_figures_are_sorted_as_the_table_shows_them() -> None:
    """Of the stage that all reached, not of the last one that each did."""
    records = [
        TrialRecord(
            number,
            TrialState.COMPLETE,
            metrics={"dev/wer": 30.0, "dev/wer_final": figures[-1]},
            decoding_stages=tuple(
                {"stage": name, "metrics": {"dev/wer": wer}} for name, wer in zip("abc", figures, strict=False)
            ),
        )
        for number, figures in enumerate([(30.0, 25.0, 20.0), (30.0, 23.0)])
    ]
    assert [one.number for one in Rows("dev/wer_final").choose(records, STUDY)] == [1, 0]


states = st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING])


@given(st.lists(st.tuples(st.floats(1.0, 99.0), states), max_size=40), st.integers(6, 20))
def test_a_small_screen_shows_the_best_what_runs_and_the_newest(
    trials: list[tuple[float, TrialState]], room: int
) -> None:
    records = [record(number, wer, state=state) for number, (wer, state) in enumerate(trials)]
    shown = [one.number for one in Rows(room=room).choose(records, STUDY)]
    assert shown == sorted(shown)
    assert len(shown) == min(room, len(records))
    complete = sorted((wer, number) for number, (wer, state) in enumerate(trials) if state is TrialState.COMPLETE)
    assert {number for _, number in complete[:BEST_SHOWN]} <= set(shown)
    live = [number for number, (_, state) in enumerate(trials) if not state.final]
    assert len(live) > room - BEST_SHOWN or set(live) <= set(shown)


@pytest.mark.parametrize(
    ("rows", "shown", "words"),
    [
        (Rows(), 9, None),
        (Rows(room=5), 5, "5 of 9 trials are shown, those that run or wait, the best and the newest; --all shows all"),
        (Rows(top=3), 3, "3 of 9 trials are shown, the best"),
        (Rows("epoch", top=3), 3, "3 of 9 trials are shown, the first by epoch"),
        (Rows("epoch", room=4), 4, "4 of 9 trials are shown, the first by epoch; --all shows all of them"),
    ],
)
def test_what_is_left_out_is_said(rows: Rows, shown: int, words: str | None) -> None:
    line = describe_left_out(shown, 9, rows)
    assert line is None if words is None else line is not None and line.startswith(words)


def test_the_status_of_some_trials_marks_the_best_of_all_and_says_how_many_there_are(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    ledger.start_session()
    for number, wer in enumerate((30.0, 10.0, 20.0)):
        ledger.append(TrialStarted(number=number, values={"ctc_weight": 0.1 * number}))
        ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": wer}))
    console = Console(file=io.StringIO(), width=100)
    print_status(ledger, Path("s.yaml"), console, Rows("ctc_weight", top=2))
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["0000", "complete", "0", "30.00", "0"] in lines
    assert ["0001", "*", "complete", "0", "10.00", "0.1"] in lines
    assert not any(line[:1] == ["0002"] for line in lines)
    assert ["2", "of", "3", "trials", "are", "shown,", "the", "first", "by", "ctc_weight"] in lines
