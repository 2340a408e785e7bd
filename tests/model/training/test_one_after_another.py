"""Recipes trained one after another in one process: each as if alone, and nothing of it stays."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file
from torch import nn

from model.data.demo.build import make_demo
from model.network.encoder import EBranchformerLayer
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import to_yaml
from model.training import loop
from model.training.loop import train
from model.training.prepare import prepare

Reports = list[dict[str, float]]


def trained(recipe: Recipe, folder: Path) -> tuple[Reports, str]:
    """The reports of a training without its clock, and a hash of its last weights and moments."""
    reports: Reports = []
    train(recipe, folder, reports.append)
    return without_clock(reports), hash_of_weights(folder)


def without_clock(reports: Reports) -> Reports:
    return [{name: value for name, value in one.items() if not name.endswith("/seconds")} for one in reports]


def hash_of_weights(folder: Path) -> str:
    latest = max((folder / "checkpoints").iterdir())
    both = load_file(latest / "model.safetensors") | load_file(latest / "optimiser.safetensors")
    return hashlib.sha256(b"".join(both[name].numpy().tobytes() for name in sorted(both))).hexdigest()


def watch_models(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """Weak references to the model of every training from now on."""
    models: list[weakref.ref] = []

    def start(*arguments, start=loop.start):
        run = start(*arguments)
        models.append(weakref.ref(run.model))
        return run

    monkeypatch.setattr(loop, "start", start)
    return models


def living_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


_ALONE = """
import json, sys
from pathlib import Path
import torch
from model.training.loop import train
from model.recipe.files import read_recipe
torch.set_num_threads(1)
reports = []
train(read_recipe(Path(sys.argv[1])), Path(sys.argv[2]), reports.append)
print(json.dumps(reports))
"""


def test_a_recipe_after_one_of_another_corpus_trains_as_in_a_fresh_process(make_recipe, tmp_path: Path) -> None:
    other = make_demo(tmp_path / "other", train_utterances=12, dev_utterances=2, test_utterances=2)
    values = {"data.corpus": str(other.folder), "data.fingerprint": None, "tokenizer.vocabulary": 34}
    first = prepare(with_values(make_recipe({"training.epochs": 1, "encoder.width": 32, "training.seed": 5}), values))
    second = make_recipe({"encoder.dropout": 0.1, "augmentation.time_masks": 1})
    train(first, tmp_path / "first", lambda _: None)
    reports, weights = trained(second, tmp_path / "second")
    (tmp_path / "second.yaml").write_text(to_yaml(second))
    command = [sys.executable, "-c", _ALONE, str(tmp_path / "second.yaml"), str(tmp_path / "alone")]
    environment = os.environ | {"PYTHONPATH": str(Path(loop.__file__).parents[2])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert reports == without_clock(json.loads(done.stdout))
    assert weights == hash_of_weights(tmp_path / "alone")


def test_nothing_of_a_run_is_alive_when_it_has_ended(make_recipe, tmp_path: Path, monkeypatch) -> None:
    models = watch_models(monkeypatch)
    recipe = make_recipe({"training.epochs": 1})
    train(recipe, tmp_path / "0", lambda _: None)
    tensors = living_tensors()
    for number in range(1, 3):
        train(recipe, tmp_path / str(number), lambda _: None)
    assert [one() for one in models] == [None] * 3
    assert living_tensors() == tensors


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
        train(make_recipe({"training.epochs": 1}), run_folder, failing(where))
    except Exception as raised:
        error = raised
    gc.collect()
    assert error is not None, "it is kept, with its traceback"
    assert error.__traceback__ is not None
    assert [one() for one in models] == [None]


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


def _one_group(rank: int, world: int, recipes: list[Recipe], place: str) -> None:
    """Three trainings in a process group that stays; each worker keeps what it saw."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=world)
    models = watch_models(pytest.MonkeyPatch())
    seen, tensors = [], []
    for number, recipe in enumerate(recipes):
        seen.append(trained(recipe, Path(place) / str(number)))
        tensors.append(living_tensors())
    gone = [one() is None for one in models]
    torch.save({"seen": seen, "gone": gone, "tensors": tensors}, f"{place}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_group_of_workers_trains_one_recipe_after_another(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe({"encoder.dropout": 0.1, "training.epochs": 1})
    other = make_recipe({"encoder.width": 32, "training.seed": 5, "training.epochs": 1})
    multiprocessing.spawn(_one_group, (2, [recipe, other, recipe], str(tmp_path)), nprocs=2)
    for rank in range(2):
        kept = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert kept["seen"][0] == kept["seen"][2] != kept["seen"][1]
        assert kept["gone"] == [True] * 3
        assert len(set(kept["tensors"])) == 1, kept["tensors"]


@pytest.mark.slow
def test_no_compiled_layer_outlives_its_training(make_recipe, run_folder: Path, monkeypatch) -> None:
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    def traced(self, compile_=nn.Module.compile) -> None:
        compile_(self, backend="eager")  # what is kept is the same, and made in seconds

    monkeypatch.setattr(nn.Module, "compile", traced)
    kept, code = [], EBranchformerLayer.forward.__code__
    recipe = make_recipe({"training.compile": True, "training.epochs": 1})
    train(recipe, run_folder, lambda _: kept.append(len(_debug_get_cache_entry_list(code))))
    assert kept[0] > 0
    assert not _debug_get_cache_entry_list(code)
