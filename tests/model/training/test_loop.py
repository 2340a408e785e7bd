from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.workers import Workers, current_workers
from model.strict import to_yaml
from model.training.loop import Run, start, train, train_epoch
from model.training.optimiser import train_step
from model.weights import checkpoint

METRICS = {"dev/wer", "dev/cer", "dev/perplexity", "dev/ilm_perplexity", "train/loss", "train/loss_ctc"}
METRICS |= {"train/loss_attention", "test/test-in/wer", "test/test-ood-text/ilm_perplexity", "in_domain/wer"}
METRICS |= {"out_of_domain/wer", "out_of_domain/ilm_perplexity"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    latest = checkpoint.latest_checkpoint(folder / "checkpoints")
    assert latest is not None
    return load_file(latest / "model.safetensors") | load_file(latest / "optimiser.safetensors")


def without_clock(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("/seconds")}


class StoppedError(Exception):
    pass


def test_first_epochs_and_the_rest_equal_all_epochs_bit_for_bit(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe({"training.epochs": 3})
    whole: list[dict[str, float]] = []
    train(recipe, tmp_path / "whole", whole.append)
    parts: list[dict[str, float]] = []

    def stop_after_one(metrics: dict[str, float]) -> None:
        parts.append(metrics)
        raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe, tmp_path / "parts", stop_after_one)
    torch.rand(11)  # whatever else drew random numbers
    train(recipe, tmp_path / "parts", parts.append)
    assert parts[0]["epoch"] == parts[1]["epoch"] == 1, "an epoch whose report did not return is reported again"
    assert [without_clock(one) for one in parts] == [without_clock(one) for one in (whole[0], *whole)]
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_run_that_was_stopped_before_its_last_report_makes_it_and_makes_it_again(
    make_recipe, run_folder: Path
) -> None:
    recipe = make_recipe({"training.epochs": 1})

    def stop(_: dict[str, float]) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe, run_folder, stop)
    reports: list[dict[str, float]] = []
    train(recipe, run_folder, reports.append)
    assert [one.get("finished") for one in reports] == [1.0]
    train(recipe, run_folder, reports.append)
    assert without_clock(reports[1]) == without_clock(reports[0]), "whoever asks a finished run again hears its end"


def test_only_the_last_report_has_the_test_sets_and_says_finished(make_recipe, run_folder: Path) -> None:
    reports: list[dict[str, float]] = []
    train(make_recipe(), run_folder, reports.append)
    assert [one["epoch"] for one in reports] == [1, 2]
    assert reports[-1].keys() >= METRICS
    assert reports[-1]["finished"] == 1.0
    assert not any(name.startswith("test/") or name == "finished" for name in reports[0])
    assert sorted(path.name for path in (run_folder / "checkpoints").iterdir()) == ["epoch-0001", "epoch-0002"]
    lines = (run_folder / "hypotheses" / "test-in.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert {"reference", "hypothesis", "words", "nll", "ilm_nll", "tokens"} <= json.loads(lines[0]).keys()


def test_a_checkpoint_of_another_recipe_is_refused(make_recipe, run_folder: Path) -> None:
    train(make_recipe({"training.epochs": 1}), run_folder, lambda _: None)
    with pytest.raises(UserError, match=r"was trained with recipe \w+, but this is \w+; give another folder"):
        train(make_recipe({"training.epochs": 2}), run_folder, lambda _: None)


def test_a_corpus_with_other_content_is_refused(make_recipe, run_folder: Path) -> None:
    with pytest.raises(UserError, match="but the recipe was made for abc; give the original corpus"):
        train(make_recipe({"data.fingerprint": "abc"}), run_folder, lambda _: None)


def _first_losses(rank: int, world: int, recipe: Recipe, place: str) -> None:
    """Two epochs on one of `world` workers; worker 0 writes the losses."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/meeting", rank=rank, world_size=world)
    run = start(recipe, Path(place) / "run", current_workers())
    losses = _two_epochs(run)
    if rank == 0:
        torch.save({"losses": losses, "weights": run.model.state_dict()}, f"{place}/two.pt")
    torch.distributed.destroy_process_group()


def _two_epochs(run: Run) -> list[dict[str, float]]:
    losses = []
    for _ in range(2):
        train_epoch(run)
        losses.append(without_clock(run.state.losses))
    return losses


def test_two_workers_train_what_one_does_with_the_same_global_batch(make_recipe, tmp_path: Path) -> None:
    # Three utterances a batch or so: shares are uneven, and the mean over workers would be wrong.
    recipe = make_recipe({"encoder.dropout": 0.0, "decoder.dropout": 0.0, "data.batch_seconds": 7.0})
    one = start(recipe, tmp_path / "one", Workers(0, 1, torch.device("cpu")))
    alone = _two_epochs(one)
    multiprocessing.spawn(_first_losses, (2, recipe, str(tmp_path)), nprocs=2)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for ours, theirs in zip(alone, two["losses"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_one_recipe_trains_and_is_scored_without_ray(make_recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe({"training.epochs": 1})))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", _WITHOUT_RAY, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    trained = run("train", "recipe.yaml", "--out", "run")
    scored = run("evaluate", "run")
    last = [line for line in trained.splitlines() if line.startswith("out_of_domain")]
    assert last
    assert last[0] in scored.splitlines()


_WITHOUT_RAY = """
import runpy, sys
for name in ("ray", "mlflow", "optuna", "study", "cluster"):
    sys.modules[name] = None
runpy.run_module("model", run_name="__main__")
"""


@pytest.mark.slow
def test_compiled_layers_compute_the_same_loss_and_gradient_and_keep_their_names(make_recipe, run_folder: Path) -> None:
    figures, names = [], []
    for compiled in (False, True):
        values = {"encoder.dropout": 0.0, "decoder.dropout": 0.0, "training.compile": compiled}
        run = start(make_recipe(values), run_folder / str(compiled), current_workers())
        parts = run.training.share(run.training.plan(0)[0], 0, 1, 1, 0)
        figures.append(train_step(run.model, parts, run.optimiser, 1e-3, 5.0, "fp32").figures)  # loss and norm
        names.append(list(run.model.state_dict()))
    torch.testing.assert_close(figures[1], figures[0], atol=0, rtol=1e-4)
    assert names[0] == names[1]
