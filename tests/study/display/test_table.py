"""The best trial is a finished one, and what is exported is what ran."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from ledger_events import end_trial, report_epoch
from rich.console import Console

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import Objective, StudyFile
from study.display.table import best, export_recipe, table
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

TINY = named_recipe("tiny", "/speech")
STUDY = StudyFile.model_validate({"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}})


def record(number: int, wer: float, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    return TrialRecord(number, state, metrics={"dev/wer": wer}, values={"ctc_weight": 0.3})


def recipe(ctc_weight: float) -> Recipe:
    return with_values(TINY, {"loss.ctc_weight": ctc_weight})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Trial 0 ended at 30 %, trial 1 at 20 %, trial 2 was stopped at 10 %."""
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    states = (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED)
    for number, state in enumerate(states):
        ledger.start_trial(number, recipe(0.3 + number / 10), {}, None)
        report_epoch(ledger, number, 1, {"dev/wer": 30.0 - 10 * number})
        end_trial(ledger, number, state)
    return ledger


def test_only_complete_trials_can_be_best() -> None:
    others = [state for state in TrialState if state is not TrialState.COMPLETE]
    records = [record(number, 1.0, state) for number, state in enumerate(others)]
    assert best(records, Objective()) is None
    assert best([*records, record(9, 50.0)], Objective()) == record(9, 50.0)


def test_the_lowest_objective_is_best_and_of_equals_the_first() -> None:
    records = [record(3, 20.0), record(1, 20.0), record(0, math.nan), record(2, 30.0)]
    assert best(records, Objective()) == record(1, 20.0)


def test_a_trial_without_the_objective_is_not_best() -> None:
    assert best([record(0, 20.0)], Objective(metric="dev/cer")) is None


def test_the_table_shows_every_trial_and_marks_the_best() -> None:
    records = [
        TrialRecord(
            1, TrialState.PRUNED, metrics={"dev/wer": 61.0}, epochs=({"epoch": 1},), values={"ctc_weight": 0.2}
        ),
        TrialRecord(
            0,
            TrialState.COMPLETE,
            baseline="ed",
            metrics={"dev/wer": 20.125, "dev/ilm_perplexity": 11.0, "out_of_domain/wer": 88.0},
            epochs=({"epoch": 1}, {"epoch": 2}),
            values={"ctc_weight": 0.3},
        ),
    ]
    printed = io.StringIO()
    Console(width=160, file=printed).print(table(records, STUDY))
    lines = [line.split() for line in printed.getvalue().replace("│", " ").replace("┃", " ").splitlines()]
    heading = ["trial", "name", "state", "epoch", "WER", "ppl", "WER", "weight"]
    assert heading in lines
    assert ["0000", "*", "ed", "complete", "2", "20.12", "11.00", "88.00", "0.3"] in lines
    assert ["0001", "pruned", "1", "61.00", "-", "-", "0.2"] in lines


def test_an_empty_study_has_an_empty_table() -> None:
    assert table([], STUDY).row_count == 0


def test_the_exported_recipe_is_the_best_trials_to_the_hash(ledger: Ledger) -> None:
    exported, number = export_recipe(ledger)
    assert (exported, number) == (recipe(0.4), 1)
    assert exported.hash == ledger.trials[1].recipe_hash


def test_any_trial_can_be_exported_by_its_number(ledger: Ledger) -> None:
    assert export_recipe(ledger, 2) == (recipe(0.5), 2)


def test_a_trial_that_is_not_there_is_refused_with_those_that_are(ledger: Ledger) -> None:
    with pytest.raises(UserError, match="study 's' has no trial 7; its trials: 0 to 2"):
        export_recipe(ledger, 7)


def test_a_study_without_a_complete_trial_has_no_best(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    with pytest.raises(UserError, match="has no complete trial yet, so none is best"):
        export_recipe(ledger)


def test_a_recipe_file_that_was_changed_is_not_exported(ledger: Ledger) -> None:
    path = ledger.trial_folder(1) / "recipe.yaml"
    path.write_text(path.read_text().replace("ctc_weight: 0.4", "ctc_weight: 0.1"))
    with pytest.raises(UserError, match=r"but trial 1 ran [0-9a-f]{16}; the file was changed after the trial"):
        export_recipe(ledger)


def test_the_headers_of_the_demos_table_are_unbroken_at_100_columns() -> None:
    values = {"ctc_weight": 0.123, "auxiliary.placement": "1,3", "auxiliary.weights": "0.25,0.31", "final_weight": 0.44}
    metrics = {"dev/wer": 120.25, "dev/ilm_perplexity": 111.0, "out_of_domain/wer": 188.0}
    records = [TrialRecord(0, TrialState.COMPLETE, None, "decred-paper", values, "hash", ({"epoch": 1},), metrics)]
    printed = io.StringIO()
    Console(width=100, file=printed).print(table(records, STUDY))
    said = printed.getvalue().split()
    assert all(word in said for word in ("OOD", "weight", "placement", "weights", "final", "decred-paper"))


def test_a_list_is_folded_behind_a_comma_and_no_number_is_broken_at_100_columns() -> None:
    values = {"ctc_weight": 0.123, "optimiser.learning_rate": 0.00123, "auxiliary.placement": "1,3"}
    values |= {"auxiliary.weights": "0.19,0.04", "final_weight": 0.77}
    metrics = {"dev/wer": 120.25, "dev/ilm_perplexity": 111.0, "out_of_domain/wer": 188.0}
    records = [TrialRecord(0, TrialState.COMPLETE, None, "decred-paper", values, "hash", ({"epoch": 1},), metrics)]
    for width in (100, 110, 160):
        printed = io.StringIO()
        Console(width=width, file=printed).print(table(records, STUDY))
        said = printed.getvalue().split()
        assert all(word in said for word in ("learning", "0.00123", "placement", "1,", "0.19,", "0.04", "weight")), (
            width
        )


def test_a_waiting_a_retried_and_an_imported_trial_are_told_apart() -> None:
    records = [
        TrialRecord(0, TrialState.COMPLETE, baseline="ed", source="old/3"),
        TrialRecord(1, TrialState.WAITING, retries=1, epochs=({"epoch": 1}, {"epoch": 2})),
        TrialRecord(2, TrialState.FAILED, retries=5),
    ]
    printed = io.StringIO()
    Console(width=80, file=printed).print(table(records, STUDY))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    for expected in ("0000 ed complete 0", "from old/3", "0001 1 retry waiting 2", "0002 5 retries failed 0"):
        assert expected in lines
