"""Trainings whose epochs are scored on a part of the dev sets, and whose end reports other estimators of the ILM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_runs import without_clock

from model.commands.evaluate import score_run
from model.commands.formatting import format_epoch
from model.corpora.corpus import Corpus
from model.evaluation.error_rates import Edits, error_rate
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.loop import train

PART: dict[str, Any] = {
    "validation.utterances": 5,
    "validation.ilm_estimators": ["zeroed", "mean_context"],
    "training.choose": "average_last",
    "training.average": 2,
    "optimiser.learning_rate": 1e-2,
}

Reports = list[dict[str, float]]


@pytest.fixture(scope="module")
def recipe(make_recipe) -> Recipe:
    return make_recipe(PART)


@pytest.fixture(scope="module")
def trained(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reports, list[list[str]]]:
    """A run, its reports, and the ids of the utterances that each of them left in dev.jsonl."""
    folder = tmp_path_factory.mktemp("part") / "run"
    reports, scored = Reports(), list[list[str]]()

    def report(metrics: dict[str, float]) -> None:
        reports.append(metrics)
        scored.append([line["id"] for line in read_lines(folder, "dev")])

    train(recipe, folder, report, score_tests=False)
    return folder, reports, scored


def read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"hypotheses/{name}.jsonl").read_text().splitlines()]


def rate_of(lines: list[dict[str, Any]]) -> float:
    return error_rate(Edits(*line["words"]) for line in lines)


def test_every_report_is_of_the_same_utterances_of_each_dev_set(trained, corpus: Corpus) -> None:
    folder, reports, scored = trained
    assert [report["dev/utterances"] for report in reports] == [5.0] * 3
    assert all(ids == scored[0] for ids in scored)
    names = [line["set_name"] for line in read_lines(folder, "dev")]
    assert set(names) == set(corpus.set_names("dev"))
    assert sorted(map(names.count, set(names))) == [1, 2, 2]


def test_the_figures_of_epochs_are_of_the_part_and_the_final_ones_of_all(trained) -> None:
    folder, reports, _ = trained
    final, part, whole = reports[-1], read_lines(folder, "dev"), read_lines(folder, "dev-final")
    assert (len(part), len(whole)) == (5, 12)
    assert final["dev/wer"] == pytest.approx(rate_of(part)), "of the average, which was scored on the part, too"
    assert final["dev/wer_final"] == pytest.approx(rate_of(whole))
    by_id = {line["id"]: line for line in whole}
    assert [by_id[line["id"]]["hypothesis"] for line in part] == [line["hypothesis"] for line in part]


def test_evaluate_scores_all_and_the_end_reports_its_perplexities_by_every_estimator(trained) -> None:
    folder, reports, _ = trained
    final, measured = reports[-1], score_run(folder, estimators=True)
    assert "dev/utterances" not in measured
    names = {"dev/wer_final": "dev/wer", "dev/cer_final": "dev/cer"}
    names |= {f"{name}_final": name for name in ("dev/perplexity", "dev/ilm_perplexity", "dev/in_domain/perplexity")}
    names |= {name: name for name in ("dev/ilm_perplexity_zeroed", "dev/ilm_perplexity_mean_context")}
    for ours, theirs in names.items():
        assert final[ours] == pytest.approx(measured[theirs], rel=1e-4), ours
    assert final["dev/ilm_perplexity"] != final["dev/ilm_perplexity_final"], "one is of five utterances"
    assert not any("zeroed" in name or "mean_context" in name for report in reports[:-1] for name in report)


def test_the_last_line_of_a_training_says_of_how_many_utterances_its_figures_are(trained) -> None:
    lines = format_epoch(trained[1][-1], 2).splitlines()
    assert " % of 5 utterances  final decoding " in lines[0]
    assert lines[1].startswith("dev: ILM perplexity, zeroed: ")
    assert lines[2].startswith("dev: ILM perplexity, mean context: ")


def test_a_run_that_has_ended_is_scored_again_to_the_same_figures(trained, recipe: Recipe) -> None:
    again = Reports()
    train(recipe, trained[0], again.append, score_tests=False)
    assert [without_clock(report) for report in again] == [without_clock(trained[1][-1])]


def test_all_utterances_by_number_give_the_figures_of_a_recipe_without_one(
    make_recipe, tmp_path: Path, corpus: Corpus
) -> None:
    plain = make_recipe({"training.epochs": 1})
    every = sum(corpus.sets[name].utterances for name in corpus.set_names("dev"))
    ours, theirs = Reports(), Reports()
    train(plain, tmp_path / "plain", ours.append, score_tests=False)
    train(with_values(plain, {"validation.utterances": every}), tmp_path / "all", theirs.append, score_tests=False)
    assert [without_clock(report) for report in ours] == [without_clock(report) for report in theirs]
    assert not any("dev/utterances" in report for report in ours)
    assert not (tmp_path / "plain/hypotheses/dev-final.jsonl").exists(), "scored once: the decoding is validation's"
