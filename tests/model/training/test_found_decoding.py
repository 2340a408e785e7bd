"""A run's decoding is searched once, at the end of its training, and used from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_runs import without_clock

from model.api import load_run
from model.commands.evaluate import score_run
from model.errors import UserError
from model.evaluation.decoding_search import DecodingSearch, TriedDecoding
from model.evaluation.error_rates import Edits
from model.training import ending
from model.training.loop import train
from model.weights.found_decoding import DECODING_FILE, read_found, with_found_decoding

SEARCH = {"decoding_search.share": 0.9, "training.epochs": 1}
BEST = {"beam": 4, "ctc_weight": 0.6}


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time limit of each search; what they find is `BEST`."""
    limits: list[float] = []

    def search(model, dev, start, settings, tokenizer, context, seconds) -> DecodingSearch:
        limits.append(seconds)
        sets = [{"dev": Edits(errors, 0, 0, 10)} for errors in (9, 1)]
        best = start.model_copy(update=BEST)
        tried = [TriedDecoding("start", start, sets[0], 1.0), TriedDecoding("beam 4", best, sets[1], 2.0)]
        return DecodingSearch(tried, ["start", "beam 4"])

    monkeypatch.setattr(ending, "search_decoding", search)
    return limits


def wer_of(sets: dict[str, list[int]]) -> float:
    """Of all sets pooled, each with its edits [S, D, I, N]."""
    return 100.0 * sum(sum(edits[:3]) for edits in sets.values()) / sum(edits[3] for edits in sets.values())


def test_a_real_search_is_reported_written_down_and_scored(make_recipe, run_folder: Path) -> None:
    reports: list[dict[str, float]] = []
    recipe = make_recipe(SEARCH | {"decoding_search.ctc_weight": [0.0, 0.8], "decoding_search.beam": [2]})
    train(recipe, run_folder, reports.append)
    content = json.loads((run_folder / DECODING_FILE).read_text())
    final = reports[-1]
    assert final["decoding/tried"] == len(content["tried"]) >= 1
    assert 0.0 < final["decoding/search_seconds"] == content["seconds"]
    assert final["decoding/search_share"] == pytest.approx(content["seconds"] / reports[0]["train/seconds"])
    assert final["dev/wer_final"] == pytest.approx(min(wer_of(one["words"]) for one in content["tried"]))
    stages = list(dict.fromkeys(one["stage"] for one in content["tried"]))
    assert [stage["stage"] for stage in content["stages"]] == stages
    figures = [stage["metrics"]["dev/wer"] for stage in content["stages"]]
    assert figures == sorted(figures, reverse=True)
    assert (figures[-1], content["stages"][-1]["decoding"]) == (final["dev/wer_final"], content["decoding"])
    assert content["decoding"]["ctc_weight"] == final["decoding/ctc_weight"]
    assert "dev/in_domain/wer_final" in final
    assert (run_folder / "hypotheses" / "dev-final.jsonl").is_file()


def test_it_has_its_share_of_the_training_seconds(make_recipe, run_folder: Path, searches: list[float]) -> None:
    reports: list[dict[str, float]] = []
    train(make_recipe(SEARCH | {"training.epochs": 2, "decoding_search.share": 0.25}), run_folder, reports.append)
    assert searches == [pytest.approx(0.25 * sum(metrics["train/seconds"] for metrics in reports[:2]))]


def test_a_run_is_searched_once_and_again_where_something_else_is_asked_for(
    make_recipe, run_folder: Path, searches: list[float]
) -> None:
    reports: list[dict[str, float]] = []
    recipe = make_recipe(SEARCH)
    for _ in range(2):
        train(recipe, run_folder, reports.append)
    assert len(searches) == 1
    assert without_clock(reports[-1]) == without_clock(reports[-2])
    other = make_recipe(SEARCH | {"decoding.length_penalty": 0.0})
    train(other, run_folder, reports.append)
    assert len(searches) == 2
    assert reports[-1]["decoding/length_penalty"] == 0.0
    train(make_recipe(SEARCH | {"decoding_search.share": 0.0}), run_folder, reports.append)
    assert len(searches) == 2, "a share of 0 searches nothing"
    assert "decoding/beam" not in reports[-1]


def test_what_was_found_decodes_the_tests_and_whatever_loads_the_run(
    make_recipe, run_folder: Path, searches: list[float]
) -> None:
    recipe = make_recipe(SEARCH)
    train(recipe, run_folder, lambda _: None)
    settings = json.loads((run_folder / "hypotheses" / "test-in.settings.json").read_text())
    assert BEST.items() <= settings["decoding"].items()
    decoding = load_run(run_folder).recipe.decoding
    assert (decoding.beam, decoding.ctc_weight) == (4, 0.6)
    assert with_found_decoding(recipe, run_folder).hash == recipe.hash, "it trains no other model"
    score_run(run_folder, beam=2)
    settings = json.loads((run_folder / "evaluation" / "test-in.settings.json").read_text())
    assert (settings["decoding"]["beam"], settings["decoding"]["ctc_weight"]) == (2, 0.6)


def test_a_damaged_file_is_one_line(make_recipe, run_folder: Path, searches: list[float]) -> None:
    recipe = make_recipe(SEARCH)
    train(recipe, run_folder, lambda _: None)
    (run_folder / DECODING_FILE).write_text('{"decoding": {}')
    with pytest.raises(UserError, match=r"decoding.json: is damaged \(.*\); restore it, or remove it"):
        read_found(run_folder)
    with pytest.raises(UserError, match=r"decoding.json: is damaged"):
        train(recipe, run_folder, lambda _: None)
