from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import (
    ALONE,
    StoppedError,
    assert_equal,
    assert_same_weights,
    read_chosen_weights,
    train_whole_and_first_epoch,
    without_clock,
)

from model.data.recipe_inputs import ensure_tokenizer
from model.data.tokenizer import TOKENIZER_FILE
from model.errors import UserError
from model.network.making import count_parameters
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.training.loop import train, train_epoch
from model.training.optimiser import train_step
from model.training.run import TrainingRun, start_or_resume

DEV = {"dev/wer", "dev/cer", "dev/ctc_wer", "dev/perplexity", "dev/perplexity_layer_2", "dev/ilm_perplexity"}
DEV |= {"dev/macro_wer", "dev/in_domain/wer", "dev/dev/wer", "dev/rtf"}
TRAIN = {"train/loss", "train/loss_ctc", "train/loss_attention", "train/loss_layer_2", "train/loss_final"}
TRAIN |= {"train/gradient_norm", "train/learning_rate", "train/peak_learning_rate", "train/frames_per_second"}
TRAIN |= {"train/tokens_per_second", "train/peak_memory_mib", "train/skipped", "train/accumulate", "train/seconds"}
FINAL = {"test/test-in/wer", "test/test-ood-text/ilm_perplexity", "in_domain/wer", "out_of_domain/wer"}
FINAL |= {"out_of_domain/ilm_perplexity", "dev/wer_final", "dev/cer_final", "chosen_epoch", "decoding/seconds"}
FINAL |= {"dev/rtf_final", "parameters"}
RANDOM = {
    "encoder.dropout": 0.1,
    "decoder.dropout": 0.1,
    "augmentation.time_masks": 2,
    "augmentation.frequency_masks": 2,
}


def stop(_: dict[str, float]) -> None:
    raise StoppedError


@pytest.mark.parametrize("choose", ["average_best", "ema"])
def test_first_epochs_and_the_rest_equal_all_epochs_bit_for_bit(make_recipe, tmp_path: Path, choose: str) -> None:
    recipe = make_recipe(RANDOM | {"training.choose": choose, "training.average": 2})
    whole, parts = train_whole_and_first_epoch(recipe, tmp_path)
    torch.rand(11)  # random numbers that something else draws
    train(recipe, tmp_path / "parts", parts.append)
    assert parts[0]["epoch"] == parts[1]["epoch"] == 1, "an epoch whose report did not return is reported again"
    assert [without_clock(metrics) for metrics in parts] == [without_clock(metrics) for metrics in (whole[0], *whole)]
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")
    assert_equal(read_chosen_weights(tmp_path / "parts"), read_chosen_weights(tmp_path / "whole"))


def test_a_run_stopped_in_its_last_report_reports_it_on_resume_and_on_every_later_start(
    make_recipe, run_folder: Path
) -> None:
    recipe = make_recipe({"training.epochs": 1})
    with pytest.raises(StoppedError):
        train(recipe, run_folder, stop)
    reports: list[dict[str, float]] = []
    train(recipe, run_folder, reports.append)
    assert [metrics.get("last_epoch") for metrics in reports] == [1.0, None]
    assert [metrics.get("finished") for metrics in reports] == [None, 1.0]
    train(recipe, run_folder, reports.append)
    assert without_clock(reports[2]) == without_clock(reports[1]), "an ended run makes the final report alone"


def test_the_last_epoch_is_marked_and_only_the_report_after_it_has_the_test_sets_and_finished(
    make_recipe, run_folder: Path
) -> None:
    reports: list[dict[str, float]] = []
    recipe = make_recipe({"loss.auxiliary": {"placement": [2], "weights": [0.3]}, "decoding.beam": 2})
    train(recipe, run_folder, reports.append)
    assert [metrics["epoch"] for metrics in reports] == [1, 2, 2]
    assert [metrics.get("last_epoch") for metrics in reports] == [None, 1.0, None]
    for metrics in reports[:2]:
        assert metrics.keys() >= DEV | TRAIN
        assert metrics["dev/dev/wer"] == metrics["dev/in_domain/wer"], "one dev set is of that domain"
        assert not metrics.keys() & (FINAL | {"finished"})
        total = 0.3 * metrics["train/loss_layer_2"] + 0.7 * metrics["train/loss_final"]
        assert total == pytest.approx(metrics["train/loss_attention"], rel=1e-5)
        assert metrics["train/skipped"] == 0
        assert min(metrics[name] for name in TRAIN - {"train/skipped"}) > 0
    assert reports[2].keys() >= DEV | FINAL
    assert reports[2]["finished"] == 1.0
    assert reports[2]["parameters"] == count_parameters(recipe)
    assert min(report["dev/rtf"] for report in reports) > 0
    best = min(reports[:2], key=lambda metrics: metrics["dev/wer"])
    assert reports[2]["chosen_epoch"] == best["epoch"]
    assert {name: reports[2][name] for name in DEV} == {name: best[name] for name in DEV}
    assert sorted(path.name for path in (run_folder / "hypotheses").glob("*.jsonl"))[:2] == [
        "dev-final.jsonl",
        "dev.jsonl",
    ]
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
        parts = run.training_set.load_share(run.training_set.plan_pass(0)[0], 0, 1, 1, "0/0")
        computed.append(train_step(run.model, parts, run.optimiser, 1e-3, 5.0, "fp32").loss_and_norm)
        names.append(list(run.model.state_dict()))
    torch.testing.assert_close(computed[1], computed[0], atol=0, rtol=1e-4)
    assert names[0] == names[1]
