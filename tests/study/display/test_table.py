"""The table shows every trial, and fits a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from study.config.study_file import StudyFile
from study.display.table import make_table
from study.ledger.events import EpochReport
from study.ledger.records import TrialRecord, TrialState

EPOCHS = (EpochReport(epoch=1), EpochReport(epoch=2))
STUDY = StudyFile.model_validate({"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}})


def test_the_table_shows_every_trial_and_marks_the_best() -> None:
    records = [
        TrialRecord(1, TrialState.PRUNED, metrics={"dev/wer": 61.0}, epochs=EPOCHS[:1], values={"ctc_weight": 0.2}),
        TrialRecord(
            0,
            TrialState.COMPLETE,
            baseline="ed",
            metrics={"dev/wer": 20.125, "dev/ilm_perplexity": 11.0, "out_of_domain/wer": 88.0},
            epochs=EPOCHS,
            values={"ctc_weight": 0.3},
        ),
    ]
    printed = io.StringIO()
    Console(width=160, file=printed).print(make_table(records, STUDY))
    lines = [line.split() for line in printed.getvalue().replace("│", " ").replace("┃", " ").splitlines()]
    heading = ["trial", "name", "state", "epoch", "WER", "ppl", "WER", "weight"]
    assert heading in lines
    assert ["0000", "*", "ed", "complete", "2", "20.12", "11.00", "88.00", "0.3"] in lines
    assert ["0001", "pruned", "1", "61.00", "-", "-", "0.2"] in lines


def test_final_figures_are_of_the_stage_that_all_complete_trials_reached() -> None:
    names = ("start", "CTC weight 0.5", "beam 4")
    records = [
        TrialRecord(
            number,
            TrialState.COMPLETE,
            metrics={"dev/wer": 30.0, "dev/wer_final": figures[-1]},
            decoding_stages=tuple(
                {"stage": name, "metrics": {"dev/wer": wer}} for name, wer in zip(names, figures, strict=False)
            ),
        )
        for number, figures in enumerate([(30.0, 25.0, 20.0), (30.0, 23.0)])
    ]
    printed = io.StringIO()
    Console(width=160, file=printed).print(make_table(records, STUDY))
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert ["0000", "complete", "0", "30.00", "25.00"] in lines
    assert ["0001", "*", "complete", "0", "30.00", "23.00"] in lines
    caption = (
        "final WER: by the best decoding until the stage 'CTC weight 0.5' of its search, which all complete trials"
    )
    assert caption in " ".join(printed.getvalue().split())
    printed = io.StringIO()
    Console(width=160, file=printed).print(make_table(records[:1], STUDY))
    assert "20.00" in printed.getvalue()
    assert "stage" not in printed.getvalue(), "nothing to say where all were searched alike"


def test_the_best_trial_is_the_finalist_that_is_best_with_new_seeds() -> None:
    def make(number: int, wer: float, confirms: int | None = None) -> TrialRecord:
        return TrialRecord(number, TrialState.COMPLETE, metrics={"dev/wer": wer}, confirms=confirms)

    records = [make(0, 20.0), make(1, 21.0), make(2, 25.0, confirms=0), make(3, 22.0, confirms=1)]
    printed = io.StringIO()
    Console(width=160, file=printed).print(make_table(records, STUDY))
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert ["0001", "*", "complete", "0", "21.00"] in lines
    assert ["0003", "confirms", "0001", "complete", "0", "22.00"] in lines


def test_an_empty_study_has_an_empty_table() -> None:
    assert make_table([], STUDY).row_count == 0


def test_the_headers_of_the_demos_table_are_not_folded_at_100_columns() -> None:
    values = {"ctc_weight": 0.123, "auxiliary.placement": "1,3", "auxiliary.weights": "0.25,0.31", "final_weight": 0.44}
    metrics = {"dev/wer": 120.25, "dev/ilm_perplexity": 111.0, "out_of_domain/wer": 188.0}
    records = [
        TrialRecord(0, TrialState.COMPLETE, baseline="decred-paper", values=values, epochs=EPOCHS[:1], metrics=metrics)
    ]
    printed = io.StringIO()
    Console(width=100, file=printed).print(make_table(records, STUDY))
    cells = printed.getvalue().split()
    assert all(cell in cells for cell in ("OOD", "weight", "placement", "weights", "final", "decred-paper"))


def test_lists_are_folded_after_a_comma_and_numbers_are_not_folded_at_100_columns() -> None:
    values = {"ctc_weight": 0.123, "optimiser.learning_rate": 0.00123, "auxiliary.placement": "1,3"}
    values |= {"auxiliary.weights": "0.19,0.04", "final_weight": 0.77}
    metrics = {"dev/wer": 120.25, "dev/ilm_perplexity": 111.0, "out_of_domain/wer": 188.0}
    records = [
        TrialRecord(0, TrialState.COMPLETE, baseline="decred-paper", values=values, epochs=EPOCHS[:1], metrics=metrics)
    ]
    for width in (100, 110, 160):
        printed = io.StringIO()
        Console(width=width, file=printed).print(make_table(records, STUDY))
        cells = printed.getvalue().split()
        assert all(cell in cells for cell in ("learning", "0.00123", "placement", "1,", "0.19,", "0.04", "weight")), (
            width
        )


def test_the_table_marks_waiting_retried_and_imported_trials() -> None:
    records = [
        TrialRecord(0, TrialState.COMPLETE, baseline="ed", source="old/3"),
        TrialRecord(1, TrialState.WAITING, retries=1, epochs=EPOCHS),
        TrialRecord(2, TrialState.FAILED, retries=5),
    ]
    printed = io.StringIO()
    Console(width=80, file=printed).print(make_table(records, STUDY))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    for expected in ("0000 ed complete 0", "from old/3", "0001 1 retry waiting 2", "0002 5 retries failed 0"):
        assert expected in lines
