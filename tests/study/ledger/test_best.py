"""The best trial is a complete one, and its exported recipe is the one that ran."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_events import end_trial, report_epoch

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import Objective, StudyFile
from study.ledger.best import Ranking, export_recipe, find_best, rank_trials
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
    """Trial 0 is complete with 30 % WER, trial 1 with 20 %, trial 2 was stopped at 10 %."""
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    states = (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED)
    for number, state in enumerate(states):
        ledger.start_trial(number, recipe(0.3 + number / 10), {}, None)
        report_epoch(ledger, number, 1, {"dev/wer": 30.0 - 10 * number})
        end_trial(ledger, number, state)
    return ledger


def test_only_a_complete_trial_can_be_the_best() -> None:
    others = [state for state in TrialState if state is not TrialState.COMPLETE]
    records = [record(number, 1.0, state) for number, state in enumerate(others)]
    assert find_best(records, Objective()) is None
    assert find_best([*records, record(9, 50.0)], Objective()) == record(9, 50.0)


def test_the_lowest_objective_is_the_best_and_the_first_of_equal_ones() -> None:
    records = [record(3, 20.0), record(1, 20.0), record(0, math.nan), record(2, 30.0)]
    assert find_best(records, Objective()) == record(1, 20.0)


def test_a_trial_without_the_objective_is_not_the_best() -> None:
    assert find_best([record(0, 20.0)], Objective(metric="dev/cer")) is None


def searched(number: int, *figures: float) -> TrialRecord:
    """A trial that was searched through as many stages, with the best figure until the end of each."""
    names = ("start", "CTC weight 0.5", "beam 4")
    stages = tuple({"stage": name, "metrics": {"dev/wer": wer}} for name, wer in zip(names, figures, strict=False))
    metrics = {"dev/wer": figures[0], "dev/wer_final": figures[-1], "dev/cer": number, "dev/cer_final": figures[-1]}
    return TrialRecord(number, TrialState.COMPLETE, metrics=metrics, decoding_stages=stages)


def test_trials_that_were_searched_alike_are_ranked_by_what_was_found() -> None:
    records = [searched(0, 30.0, 25.0), searched(1, 31.0, 22.0)]
    assert rank_trials(records, Objective()) == Ranking("dev/wer_final", {0: 25.0, 1: 22.0})
    assert rank_trials(records, Objective(ranking="validation")) == Ranking("dev/wer", {0: 30.0, 1: 31.0})


def test_a_longer_search_gains_no_rank() -> None:
    records = [searched(0, 30.0, 25.0, 20.0), searched(1, 31.0, 23.0)]
    assert rank_trials(records, Objective()) == Ranking("dev/wer_final", {0: 25.0, 1: 23.0}, stage="CTC weight 0.5")
    assert find_best(records, Objective()) == records[1]


def test_a_metric_without_figures_of_the_stage_that_all_reached_is_ranked_as_validated() -> None:
    records = [searched(0, 30.0, 25.0, 20.0), searched(1, 31.0, 23.0)]
    assert rank_trials(records, Objective(metric="dev/cer")) == Ranking("dev/cer", {0: 0.0, 1: 1.0})
    assert rank_trials(records[:1], Objective(metric="dev/cer")) == Ranking("dev/cer_final", {0: 20.0})


def test_a_trial_without_a_search_is_not_compared_with_one_that_had_it() -> None:
    plain = TrialRecord(1, TrialState.COMPLETE, metrics={"dev/wer": 29.0, "dev/wer_final": 29.0})
    assert rank_trials([searched(0, 30.0, 25.0), plain], Objective()) == Ranking("dev/wer", {0: 30.0, 1: 29.0})
    assert rank_trials([plain], Objective()) == Ranking("dev/wer_final", {1: 29.0})


def confirmed(finalist: int, first: int, *figures: float) -> list[TrialRecord]:
    """New trainings of a finalist, with numbers from `first` on."""
    return [replace(record(first + place, wer), confirms=finalist) for place, wer in enumerate(figures)]


def test_a_former_finalist_with_one_lucky_seed_is_not_the_best() -> None:
    searched = [record(0, 21.0), record(1, 20.0), record(2, 22.0)]
    before, now = confirmed(0, 3, 20.0), [*confirmed(1, 4, 20.0, 20.5, 21.0), *confirmed(2, 7, 21.5, 22.0, 22.5)]
    assert find_best([*searched, *before, *now], Objective()) == searched[1]
    assert find_best([*searched, *before], Objective()) == searched[0], "as long as no other one has more"


def test_a_former_finalist_with_as_many_new_seeds_can_be_the_best() -> None:
    searched = [record(0, 21.0), record(1, 20.0)]
    others = [*confirmed(0, 2, 19.0, 19.5, 20.0), *confirmed(1, 5, 20.0, 20.5, 21.0)]
    assert find_best([*searched, *others], Objective()) == searched[0]


def test_a_finalist_of_which_a_seed_has_no_figure_is_not_judged_by_the_others() -> None:
    searched = [record(0, 21.0), record(1, 20.0)]
    failed = [replace(one, state=TrialState.FAILED) for one in confirmed(0, 8, 50.0)]
    figures = [*confirmed(0, 2, 19.0, 19.5), *failed, *confirmed(1, 5, 20.0, 20.5, 21.0)]
    assert find_best([*searched, *figures], Objective()) == searched[1]


def test_the_exported_recipe_has_the_hash_of_the_best_trial(ledger: Ledger) -> None:
    exported, number = export_recipe(ledger)
    assert (exported, number) == (recipe(0.4), 1)
    assert exported.hash == ledger.trials[1].recipe_hash


def test_any_trial_can_be_exported_by_its_number(ledger: Ledger) -> None:
    assert export_recipe(ledger, 2) == (recipe(0.5), 2)


def test_a_number_without_a_trial_is_refused_with_the_numbers_that_have_one(ledger: Ledger) -> None:
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
