from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import ALONE, assert_same_weights, without_clock

from model.data.tokenizer import TOKENIZER_FILE
from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training.loop import TrainingRun, start_or_resume, train, train_epoch
from model.training.optimiser import train_step
from model.training.prepare import ensure_tokenizer

METRICS = {"dev/wer", "dev/cer", "dev/perplexity", "dev/ilm_perplexity", "train/loss", "train/loss_ctc"}
METRICS |= {"train/loss_attention", "test/test-in/wer", "test/test-ood-text/ilm_perplexity", "in_domain/wer"}
METRICS |= {"out_of_domain/wer", "out_of_domain/ilm_perplexity"}


class StoppedError(Exception):
    pass


def stop(_: dict[str, float]) -> None:
    raise StoppedError


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
    torch.rand(11)  # random numbers that something else draws
    train(recipe, tmp_path / "parts", parts.append)
    assert parts[0]["epoch"] == parts[1]["epoch"] == 1, "an epoch whose report did not return is reported again"
    assert [without_clock(metrics) for metrics in parts] == [without_clock(metrics) for metrics in (whole[0], *whole)]
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")


def test_a_run_stopped_in_its_last_report_reports_it_on_resume_and_on_every_later_start(
    make_recipe, run_folder: Path
) -> None:
    recipe = make_recipe({"training.epochs": 1})
    with pytest.raises(StoppedError):
        train(recipe, run_folder, stop)
    reports: list[dict[str, float]] = []
    train(recipe, run_folder, reports.append)
    assert [metrics.get("finished") for metrics in reports] == [1.0]
    train(recipe, run_folder, reports.append)
    assert without_clock(reports[1]) == without_clock(reports[0])


def test_only_the_last_report_has_the_test_sets_and_finished(make_recipe, run_folder: Path) -> None:
    reports: list[dict[str, float]] = []
    train(make_recipe(), run_folder, reports.append)
    assert [metrics["epoch"] for metrics in reports] == [1, 2]
    assert reports[-1].keys() >= METRICS
    assert reports[-1]["finished"] == 1.0
    assert not any(name.startswith("test/") or name == "finished" for name in reports[0])
    assert sorted(path.name for path in (run_folder / "checkpoints").iterdir()) == ["epoch-0001", "epoch-0002"]
    lines = (run_folder / "hypotheses" / "test-in.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert {"reference", "hypothesis", "words", "nll", "ilm_nll", "tokens"} <= json.loads(lines[0]).keys()


def test_a_checkpoint_of_another_recipe_is_refused(make_recipe, run_folder: Path) -> None:
    train(make_recipe({"training.epochs": 1}), run_folder, lambda _: None)
    for other in ({"training.epochs": 2}, {"tokenizer.vocabulary": 38}):
        with pytest.raises(UserError, match=r"was trained with recipe \w+, but this is \w+; give another folder"):
            train(make_recipe(other), run_folder, lambda _: None)


def test_a_corpus_with_other_content_is_refused(make_recipe, run_folder: Path) -> None:
    with pytest.raises(UserError, match="but the recipe was made for abc; give the original corpus"):
        train(make_recipe({"data.fingerprint": "abc"}), run_folder, lambda _: None)


def test_a_run_keeps_its_tokenizer_and_resumes_with_it(make_recipe, corpus, run_folder: Path, made_up_text) -> None:
    recipe = make_recipe({"training.epochs": 1})
    own, of_corpus = run_folder / TOKENIZER_FILE, ensure_tokenizer(recipe, corpus).read_bytes()
    run_folder.mkdir()
    own.write_bytes(b"left by a run that never had a checkpoint")
    with pytest.raises(StoppedError):
        train(recipe, run_folder, stop)
    assert own.read_bytes() == of_corpus
    own.unlink()  # as runs of older versions are
    train(recipe, run_folder, lambda _: None)
    assert own.read_bytes() == of_corpus
    own.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"run/tokenizer.model: holds no SentencePiece model"):
        train(recipe, run_folder, lambda _: None)


def test_what_a_run_is_loaded_with_is_on_disk_before_training_starts(make_recipe, run_folder, monkeypatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int, fsync=os.fsync) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    start_or_resume(make_recipe(), run_folder, ALONE)
    drafts = [f".recipe.yaml.{os.getpid()}", f".{TOKENIZER_FILE}.{os.getpid()}"]
    assert synced[-4:] == [drafts[0], run_folder.name, drafts[1], run_folder.name]


def train_two_epochs(run: TrainingRun) -> list[dict[str, float]]:
    losses = []
    for _ in range(2):
        train_epoch(run)
        losses.append(without_clock(run.state.losses))
    return losses


def _train_on_two(rank: int, recipe: Recipe, folder: Path) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    run = start_or_resume(recipe, folder, current_context())
    return train_two_epochs(run), run.model.state_dict()


def test_two_workers_train_what_one_does_with_the_same_global_batch(make_recipe, tmp_path: Path, worker_pair) -> None:
    # About three utterances in a batch: shares are uneven, and the mean over workers would be wrong.
    recipe = make_recipe({"encoder.dropout": 0.0, "decoder.dropout": 0.0, "data.batch_seconds": 7.0})
    run = start_or_resume(recipe, tmp_path / "one", ALONE)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    losses = train_two_epochs(run)
    pair = worker_pair.run(_train_on_two, recipe, tmp_path / "two")
    for losses_of_two, weights in pair:
        for ours, theirs in zip(losses, losses_of_two, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)
        moved = torch.cat([(value - before[name]).flatten() for name, value in run.model.state_dict().items()])
        differing = torch.cat([(value - weights[name]).flatten() for name, value in run.model.state_dict().items()])
        assert float(differing.norm() / moved.norm()) < 1e-2
    assert all(torch.equal(value, pair[1][1][name]) for name, value in pair[0][1].items())


@pytest.mark.slow
def test_compiled_layers_compute_the_same_loss_and_gradient_and_keep_their_names(make_recipe, run_folder: Path) -> None:
    computed, names = [], []
    for compiled in (False, True):
        values = {"encoder.dropout": 0.0, "decoder.dropout": 0.0, "training.compile": compiled}
        run = start_or_resume(make_recipe(values), run_folder / str(compiled), current_context())
        parts = run.training_set.load_share(run.training_set.plan_epoch(0)[0], 0, 1, 1, 0)
        computed.append(train_step(run.model, parts, run.optimiser, 1e-3, 5.0, "fp32").loss_and_norm)
        names.append(list(run.model.state_dict()))
    torch.testing.assert_close(computed[1], computed[0], atol=0, rtol=1e-4)
    assert names[0] == names[1]
