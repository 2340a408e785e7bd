"""Recipes trained in succession in one process: each trains as if it were alone, and nothing of it stays in memory."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import run_in_new_process
from torch import nn
from training_runs import read_weights, without_clock

from model.corpora.demo.build import make_demo
from model.network.encoder import EBranchformerLayer
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training import loop
from model.training.loop import train
from model.training.prepare import prepare

Reports = list[dict[str, float]]


def train_and_hash(recipe: Recipe, folder: Path) -> tuple[Reports, str]:
    """The report of a recipe's first epoch without its clock, and a hash of the weights and moments after it."""
    reports: Reports = []

    def report_and_stop(metrics: dict[str, float]) -> bool:
        reports.append(without_clock(metrics))
        return False

    train(recipe, folder, report_and_stop)
    weights = read_weights(folder)
    return reports, hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


def watch_models(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """Weak references to the model of every training from now on."""
    models: list[weakref.ref] = []

    def watch(*arguments, start_or_resume=loop.start_or_resume):
        run = start_or_resume(*arguments)
        models.append(weakref.ref(run.model))
        return run

    monkeypatch.setattr(loop, "start_or_resume", watch)
    return models


def count_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())


def test_a_recipe_after_another_corpus_trains_as_in_a_new_process(make_recipe, tmp_path: Path) -> None:
    other = make_demo(tmp_path / "other", train_utterances=12, dev_utterances=2, test_utterances=2)
    values = {"data.corpus": str(other.folder), "data.fingerprint": None, "tokenizer.vocabulary": 34}
    first = prepare(with_values(make_recipe({"encoder.width": 32, "training.seed": 5}), values))
    second = make_recipe({"encoder.dropout": 0.1, "augmentation.time_masks": 1})
    train(first, tmp_path / "first", lambda _: False)
    here = train_and_hash(second, tmp_path / "second")
    assert here == run_in_new_process(train_and_hash, second, tmp_path / "alone")


def test_nothing_of_a_run_is_alive_when_it_has_ended(make_recipe, tmp_path: Path, monkeypatch) -> None:
    models = watch_models(monkeypatch)
    recipe = make_recipe()
    train(recipe, tmp_path / "0", lambda _: False)
    tensors = count_tensors()
    for number in range(1, 3):
        train(recipe, tmp_path / str(number), lambda _: False)
    assert [model() for model in models] == [None] * 3
    assert count_tensors() == tensors


def failing(where: str) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory") if where == "memory" else ValueError("the planted error")

    return fail


@pytest.mark.parametrize("where", ["memory", "step", "report"])
def test_an_error_that_is_kept_keeps_no_model(make_recipe, run_folder: Path, monkeypatch, where: str) -> None:
    models = watch_models(monkeypatch)
    if where != "report":
        monkeypatch.setattr(loop, "train_step", failing(where))
    error = None
    try:
        train(make_recipe(), run_folder, failing(where))
    except Exception as raised:
        error = raised
    gc.collect()
    assert error is not None
    assert error.__traceback__ is not None
    assert [model() for model in models] == [None]


def test_an_error_before_the_training_keeps_what_it_had(make_recipe, run_folder: Path, monkeypatch) -> None:
    def handled() -> None:
        kept = "a caller's own"
        raise KeyError(kept)

    def train_after_it() -> None:
        try:
            handled()
        except KeyError:
            train(make_recipe(), run_folder, lambda _: None)

    monkeypatch.setattr(loop, "train_step", failing("step"))
    with pytest.raises(ValueError, match="the planted error") as caught:
        train_after_it()
    earlier = caught.value.__context__
    assert isinstance(earlier, KeyError)
    assert earlier.__traceback__ is not None
    assert earlier.__traceback__.tb_next.tb_frame.f_locals == {"kept": "a caller's own"}


def _train_in_succession(rank: int, recipes: list[Recipe], folder: Path) -> dict[str, list]:
    """What trainings in one process group give, whether their models are gone, and how many tensors are left."""
    trained, tensors = [], []
    with pytest.MonkeyPatch.context() as monkeypatch:
        models = watch_models(monkeypatch)
        for number, recipe in enumerate(recipes):
            trained.append(train_and_hash(recipe, folder / str(number)))
            tensors.append(count_tensors())
        gone = [model() is None for model in models]
    return {"trained": trained, "gone": gone, "tensors": tensors}


def test_a_group_of_workers_trains_recipes_in_succession(make_recipe, tmp_path: Path, worker_pair) -> None:
    recipe = make_recipe({"encoder.dropout": 0.1})
    other = make_recipe({"encoder.width": 32, "training.seed": 5})
    for rank in worker_pair.run(_train_in_succession, [recipe, other, recipe], tmp_path):
        assert rank["trained"][0] == rank["trained"][2] != rank["trained"][1]
        assert rank["gone"] == [True] * 3
        assert len(set(rank["tensors"])) == 1, rank["tensors"]


@pytest.mark.slow
def test_no_compiled_layer_outlives_its_training(make_recipe, run_folder: Path, monkeypatch) -> None:
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    def traced(self, compile_=nn.Module.compile, **options) -> None:
        compile_(self, **options | {"backend": "eager"})  # the same cache entries, made in seconds

    monkeypatch.setattr(nn.Module, "compile", traced)
    kept, code = [], EBranchformerLayer.forward.__code__
    recipe = make_recipe({"training.compile": True, "training.epochs": 1})
    train(recipe, run_folder, lambda _: kept.append(len(_debug_get_cache_entry_list(code))))
    assert kept[0] > 0
    assert not _debug_get_cache_entry_list(code)
