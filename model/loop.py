"""The training loop: epochs of steps, each followed by a checkpoint, the dev set and a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from model import checkpoint
from model.data.batches import TrainingSet, Utterances
from model.data.corpus import Corpus
from model.evaluate import dev_utterances, score_set, score_tests, set_metrics, write_hypotheses
from model.initial_weights import start_from
from model.memory import keep_freed_memory
from model.optimiser import Step, freeze, learning_rate, make_optimiser, train_step
from model.precision import has_bf16_units
from model.prepare import corpus_of, tokenizer_of
from model.recipe import Recipe
from model.recogniser import Recogniser
from model.strict import to_yaml, write_atomically
from model.tokenizer import Tokenizer
from model.workers import Workers, current_workers

Report = Callable[[dict[str, float]], bool | None]  # False: do not go on


@dataclass
class Run:
    """One training run: what never changes, and the state that every epoch moves on."""

    recipe: Recipe
    folder: Path
    workers: Workers
    corpus: Corpus
    tokenizer: Tokenizer
    model: Recogniser
    parallel: nn.Module
    optimiser: torch.optim.Optimizer
    training: TrainingSet
    dev: Utterances
    state: checkpoint.State

    @property
    def checkpoints(self) -> Path:
        return self.folder / checkpoint.CHECKPOINTS

    @property
    def hypotheses(self) -> Path:
        return self.folder / "hypotheses"


def train(recipe: Recipe, folder: Path, report: Report) -> None:
    """Train the recipe in `folder`, from its last checkpoint if it has one.

    `report` is called on every worker once an epoch, when the checkpoint is on disk; the metrics are the same on all
    workers. Where it returns False, on all of them, training ends here, and another call goes on from the checkpoint.
    The last report also holds the test sets and `finished`. An epoch whose report did not return is reported again
    when the run goes on. A NonFiniteLossError ends the run.
    """
    run = start(recipe, folder, current_workers())
    go_on = True
    if run.state.epoch and not checkpoint.is_reported(run.checkpoints):
        go_on = tell(run, report)  # it was stopped between a checkpoint and its report
    while go_on and run.state.epoch < recipe.training.epochs:
        train_epoch(run)
        save(run)
        go_on = tell(run, report)


def start(recipe: Recipe, folder: Path, workers: Workers) -> Run:
    """Everything that the first step needs, resumed from the folder's last checkpoint, or from the initial weights."""
    keep_freed_memory()
    corpus = corpus_of(recipe)
    tokenizer = tokenizer_of(recipe, corpus)
    torch.manual_seed(recipe.training.seed)
    if workers.rank == 0 and recipe.training.precision == "bf16" and not has_bf16_units(workers.device):
        words = "training.precision is bf16, for which this processor has no units; set it to fp32, far faster here"
        logging.getLogger(__name__).warning(words)
    model = Recogniser(recipe).to(workers.device)
    freeze(model, recipe.training.freeze)
    optimiser = make_optimiser(model, recipe.optimiser)
    state = checkpoint.start_state(recipe)
    latest = checkpoint.latest_checkpoint(folder / checkpoint.CHECKPOINTS)
    if latest:
        state = checkpoint.load_state(latest, recipe)
        checkpoint.load_weights(latest, model)
        checkpoint.load_optimiser(latest, model, optimiser)
    else:
        start_from(model)
        if workers.rank == 0:
            write_atomically(folder / "recipe.yaml", to_yaml(recipe))
    if recipe.training.compile:
        for layer in (*model.encoder.layers, *model.decoder.layers):
            layer.compile()  # one graph for all layers of a kind
    parallel = _parallel(model) if workers.world > 1 else model
    training = TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer)
    dev = dev_utterances(corpus, tokenizer)
    return Run(recipe, folder, workers, corpus, tokenizer, model, parallel, optimiser, training, dev, state)


def _parallel(model: Recogniser) -> DistributedDataParallel:
    """Buffers never change, so none is sent each step; gradients live in the buckets that are."""
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def train_epoch(run: Run) -> None:
    """All steps of the next epoch; the state then holds the mean of each loss term over them."""
    began = time.monotonic()
    settings, workers, epoch = run.recipe.optimiser, run.workers, run.state.epoch
    torch.manual_seed(_epoch_seed(run.state, workers.rank))
    plan = run.training.plan(epoch)
    run.model.train()
    sums = torch.zeros(4, dtype=torch.float64, device=workers.device)
    before: Step | None = None
    for index, batch in enumerate(plan):
        progress = (epoch + index / len(plan)) / run.recipe.training.epochs
        rate = learning_rate(settings, run.state.step + index, progress)
        share = run.training.share(batch, workers.rank, workers.world, settings.accumulate, run.state.seed + epoch)
        parts = [part.to(workers.device) for part in share]
        step = train_step(run.parallel, parts, run.optimiser, rate, settings.clip_norm, run.recipe.training.precision)
        for part in step.losses:
            sums += torch.stack((part.total, part.ctc, part.attention, part.inter_ctc)).detach()
        if before:
            before.check()
        before = step
    if before:
        before.check()
    total, ctc, attention, inter_ctc = (value / len(plan) for value in workers.summed(sums.tolist()))
    losses = {"train/loss": total, "train/loss_ctc": ctc, "train/loss_attention": attention}
    if run.recipe.loss.inter_ctc.layers:
        losses["train/loss_inter_ctc"] = inter_ctc
    losses["train/seconds"] = time.monotonic() - began
    run.state = replace(run.state, epoch=epoch + 1, step=run.state.step + len(plan), losses=losses)


def _epoch_seed(state: checkpoint.State, rank: int) -> int:
    """Every epoch draws from a seed of its own: an epoch after a resume draws what it would have drawn anyway."""
    return (state.seed * 1_000_003 + state.epoch) * 1_009 + rank


def save(run: Run) -> None:
    """Worker 0 writes the checkpoint; nobody goes on before it is there."""
    if run.workers.rank == 0:
        checkpoint.save_checkpoint(run.checkpoints, run.model, run.optimiser, run.state)
    run.workers.wait()


def tell(run: Run, report: Report) -> bool:
    """Measure this epoch's checkpoint and report it; after the last one on the test sets too. Whether to go on."""
    metrics = {"epoch": run.state.epoch, **run.state.losses, **score_dev(run)}
    if run.state.epoch == run.recipe.training.epochs:
        sets = run.model, run.corpus, run.recipe.decoding, run.tokenizer, run.workers
        metrics |= score_tests(*sets, run.hypotheses) | {"finished": 1.0}
    go_on = report(metrics) is not False
    if run.workers.rank == 0:
        checkpoint.mark_reported(run.checkpoints)
    return go_on


def score_dev(run: Run) -> dict[str, float]:
    """The metrics of the dev sets."""
    began = time.monotonic()
    scored = score_set(run.model, run.dev, run.recipe.decoding, run.tokenizer, run.workers)
    write_hypotheses(scored, run.hypotheses / "dev.jsonl", run.workers)
    return set_metrics(scored, "dev") | {"dev/seconds": time.monotonic() - began}
