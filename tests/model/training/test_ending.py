"""The end of a training: which weights it keeps, what it reports of them, and what may be asked of it afterwards."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_runs import assert_equal, read_chosen_weights, without_clock

from model.api import load_run
from model.data.recipe_inputs import load_corpus
from model.errors import UserError
from model.evaluation.metrics import compute_dev_metrics
from model.evaluation.scoring import load_dev_utterances, score_set
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training import loop
from model.training.loop import train
from model.weights.chosen import list_candidates, read_chosen
from model.weights.ended_run import keep_last_weights

Reports = list[dict[str, float]]


def train_and_watch(recipe: Recipe, folder: Path) -> tuple[Reports, list[dict[str, Tensor]]]:
    """All reports, and the weights at the end of each epoch."""
    reports: Reports = []
    weights: list[dict[str, Tensor]] = []

    def report(metrics: dict[str, float]) -> None:
        reports.append(metrics)
        if "finished" not in metrics:
            path = folder / "checkpoints" / f"epoch-{int(metrics['epoch']):04d}" / "model.safetensors"
            weights.append(load_file(path))
            assert len(list_candidates(folder)) <= recipe.training.average

    train(recipe, folder, report)
    return reports, weights


def score_dev(recipe: Recipe, folder: Path) -> dict[str, float]:
    """The dev metrics of a run's weights by the recipe's validation."""
    run, corpus = load_run(folder), load_corpus(recipe)
    dev = load_dev_utterances(corpus, run.require_tokenizer())
    scored = score_set(run.model, dev, recipe.validation, run.require_tokenizer(), current_context())
    return compute_dev_metrics(corpus, scored, run.model.decoder.placement)


def test_an_average_is_the_exact_mean_of_its_epochs_and_is_what_the_final_report_scores(
    make_recipe, run_folder: Path
) -> None:
    values = {"training.choose": "average_last", "training.average": 2, "training.epochs": 3}
    recipe = make_recipe(values | {"optimiser.learning_rate": 1e-2})
    reports, weights = train_and_watch(recipe, run_folder)
    mean = {name: ((weights[1][name].double() + weights[2][name].double()) / 2).float() for name in weights[0]}
    assert_equal(read_chosen_weights(run_folder), mean)
    final = reports[-1]
    assert (final["finished"], final["epoch"], final["chosen_epoch"]) == (1.0, 3.0, 3.0)
    expected = score_dev(recipe, run_folder)
    assert {name: final[name] for name in expected} == pytest.approx(expected)
    assert final["dev/perplexity"] not in [metrics["dev/perplexity"] for metrics in reports[:-1]]
    assert final["dev/wer_final"] == final["dev/wer"], "decoding is as in validation"


def test_the_moving_average_is_chosen_and_scored_and_leaves_frozen_parts_alone(
    make_recipe, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, Tensor]] = []

    def train_step(model, *others, step=loop.train_step):
        result = step(model, *others)
        steps.append({name: value.clone() for name, value in model.state_dict().items()})
        return result

    monkeypatch.setattr(loop, "train_step", train_step)
    values = {"training.choose": "ema", "training.ema_decay": 0.3, "training.freeze": ["encoder"]}
    recipe = make_recipe(values | {"training.epochs": 2})
    reports, _ = train_and_watch(recipe, run_folder)
    average = {name: value.double() for name, value in steps[0].items()}
    for number, state in enumerate(steps[1:], start=2):
        past = min(0.3, (1 + number) / (10 + number))
        average = {name: past * value + (1 - past) * state[name].double() for name, value in average.items()}
    chosen = read_chosen_weights(run_folder)
    for name, value in chosen.items():
        torch.testing.assert_close(value.double(), average[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(value, steps[-1][name]) == name.startswith("encoder.") or value.std() == 0, name
    expected = score_dev(recipe, run_folder)
    assert {name: reports[-1][name] for name in expected} == pytest.approx(expected)
    assert list_candidates(run_folder) == [], "the optimiser has the average"


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing is to be trained")


@pytest.fixture(scope="module")
def ended(make_recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Reports]:
    """A recipe, the folder of its training, which has ended, and the reports."""
    recipe = make_recipe({"training.epochs": 2, "optimiser.learning_rate": 1e-2})
    folder = tmp_path_factory.mktemp("ended") / "run"
    reports: Reports = []
    train(recipe, folder, reports.append, score_tests=False)
    return recipe, folder, reports


@pytest.fixture
def copy(ended: tuple[Recipe, Path, Reports], tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    return Path(shutil.copytree(ended[1], tmp_path / "run"))


def test_test_sets_are_scored_when_they_are_asked_for(ended, copy: Path, monkeypatch) -> None:
    recipe, _, reports = ended
    assert not any(name.startswith(("test/", "in_domain/")) for metrics in reports for name in metrics)
    monkeypatch.setattr(loop, "train_step", refuse)
    later: Reports = []
    train(recipe, copy, later.append)
    assert len(later) == 1
    tests = {name for name in later[0] if name.startswith(("test/", "in_domain/", "out_of_domain/"))}
    assert {"test/test-in/wer", "in_domain/wer"} <= tests
    rest = {name: value for name, value in without_clock(later[0]).items() if name not in tests}
    assert rest == without_clock(reports[-1])


def test_the_final_report_has_the_epoch_with_the_lowest_wer_and_load_run_its_weights(ended, copy: Path) -> None:
    _, folder, reports = ended
    best = min(reports[:-1], key=lambda metrics: metrics["dev/wer"])
    assert reports[-1]["chosen_epoch"] == best["epoch"]
    assert reports[-1]["dev/wer"] == best["dev/wer"]
    assert reports[-1]["dev/perplexity"] == best["dev/perplexity"]
    saved = load_file(folder / "checkpoints" / f"epoch-{int(best['epoch']):04d}" / "model.safetensors")
    assert_equal(load_run(folder).model.state_dict(), saved)
    shutil.rmtree(copy / "chosen")
    bound = load_run(copy).model.tokens_per_second
    assert bound == load_run(folder).model.tokens_per_second, "a checkpoint has the bound on hypotheses, too"
    assert bound is not None
    assert bound > 1


def test_another_decoding_scores_the_ended_training_anew_without_its_checkpoints(
    ended, copy: Path, monkeypatch
) -> None:
    recipe, _, reports = ended
    weights = read_chosen_weights(copy)
    keep_last_weights(copy)
    assert not (copy / "checkpoints").exists()
    assert not (copy / "candidates").exists()
    assert_equal(load_run(copy).model.state_dict(), weights)
    monkeypatch.setattr(loop, "train_step", refuse)
    other = with_values(recipe, {"decoding.beam": 4, "decoding.ctc_weight": 0.9, "test_decoding": {"beam": 2}})
    assert other.hash == recipe.hash
    later: Reports = []
    train(other, copy, later.append)
    assert [metrics["finished"] for metrics in later] == [1.0]
    assert later[0]["dev/wer"] == reports[-1]["dev/wer"], "validation decides what trials are compared by"
    assert later[0]["dev/wer_final"] != reports[-1]["dev/wer_final"]
    assert (copy / "hypotheses" / "dev-final.jsonl").is_file()
    assert "test/test-in/wer" in later[0]
    assert_equal(read_chosen_weights(copy), weights)


def test_a_folder_that_has_only_the_weights_of_another_recipe_is_not_trained_over(ended, copy: Path) -> None:
    keep_last_weights(copy)
    other = with_values(ended[0], {"validation.ctc_weight": 0.9})
    with pytest.raises(UserError, match=r"run/chosen: was trained with recipe \w+, but this is \w+; give another fold"):
        train(other, copy, refuse)


def test_damaged_weights_of_an_ended_run_are_one_line(ended, copy: Path) -> None:
    path = copy / "chosen" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"chosen/model.safetensors: does not fit the recipe \("):
        train(ended[0], copy, refuse)


def test_a_run_whose_last_report_stops_it_has_chosen_nothing_until_it_is_started_again(
    make_recipe, run_folder: Path, monkeypatch
) -> None:
    recipe = make_recipe({"training.epochs": 1})
    train(recipe, run_folder, lambda _: False)
    assert read_chosen(run_folder) is None
    monkeypatch.setattr(loop, "train_step", refuse)
    reports: Reports = []
    train(recipe, run_folder, reports.append, score_tests=False)
    assert [metrics.get("finished") for metrics in reports] == [1.0]
    assert read_chosen(run_folder) is not None


def _train_with_a_slow_first(rank: int, recipe: Recipe, folder: Path) -> Reports:
    """The reports of a training in which rank 0 takes its time to keep what may be chosen."""
    reports: Reports = []

    def keep_slowly(*arguments, keep: Callable[..., None] = loop.keep_candidate) -> None:
        time.sleep(0.5)
        keep(*arguments)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "keep_candidate", keep_slowly)
        train(recipe, folder, lambda metrics: reports.append(without_clock(metrics)), score_tests=False)
    return reports


def test_all_workers_choose_what_the_first_one_has_kept(make_recipe, tmp_path: Path, worker_pair) -> None:
    recipe = make_recipe({"training.choose": "average_last", "training.average": 2, "data.batch_seconds": 24.0})
    first, second = worker_pair.run(_train_with_a_slow_first, recipe, tmp_path / "run")
    assert first == second
    chosen = read_chosen(tmp_path / "run")
    assert chosen is not None
    assert chosen.epochs == (2, 1)
    states = [load_file(tmp_path / "run" / "checkpoints" / f"epoch-000{n}" / "model.safetensors") for n in (1, 2)]
    mean = {name: ((value.double() + states[1][name].double()) / 2).float() for name, value in states[0].items()}
    assert_equal(read_chosen_weights(tmp_path / "run"), mean)
