"""The training loop: epochs of steps, each followed by a checkpoint, the dev set and a report."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.batches import TrainingSet, Utterances
from model.data.corpus import Corpus
from model.data.tokenizer import Tokenizer
from model.evaluation.evaluate import dev_utterances, score_set, score_tests, set_metrics, write_hypotheses
from model.network.kernels.precision import has_bf16_units
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.memory import forget_locals, give_back_memory, keep_freed_memory, naming_memory_failure
from model.runtime.workers import Workers, current_workers
from model.strict import to_yaml, write_atomically
from model.training.broken_batch import Attempt, Keeper
from model.training.memory_probe import parts_that_fit
from model.training.optimiser import freeze, learning_rate, make_optimiser, train_step
from model.training.prepare import corpus_of, tokenizer_of
from model.weights import checkpoint
from model.weights.initial import load_initial_weights

Report = Callable[[dict[str, float]], bool | None]  # False: do not go on


@dataclass
class Run:
    """One training run: what never changes, and the state that every epoch moves on.

    `accumulate` is how many parts a worker's share of a batch has, here: the recipe's, or more where memory is short.
    """

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
    state: checkpoint.TrainingPosition
    accumulate: int

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
    when the run goes on, and the last one whenever a run that has ended is called for. A NonFiniteLossError ends the
    run, and so does an OutOfMemoryError, where not even single utterances fit in memory; the batch that broke is then
    in `folder`. However it ends, nothing of the run stays in this process' memory, and the next one starts as in a
    fresh process.
    """
    outer = sys.exception()
    try:
        _train(recipe, folder, report)
    except BaseException as error:
        forget_locals(error, outer)
        raise
    finally:
        if recipe.training.compile:
            torch.compiler.reset()  # else the next recipe's layers are variants of these, of which torch allows few
        give_back_memory()


def _train(recipe: Recipe, folder: Path, report: Report) -> None:
    with naming_memory_failure("making the model and reading the corpus", "lower the model's sizes"):
        run = start(recipe, folder, current_workers())
    go_on = True
    ended = run.state.epoch == recipe.training.epochs
    if ended or (run.state.epoch and not checkpoint.is_reported(run.checkpoints)):
        go_on = tell(run, report)  # it was stopped between a checkpoint and its report, or nobody heard of its end
    if go_on and run.state.epoch < recipe.training.epochs:
        fit(run)
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
    state = checkpoint.initial_position(recipe)
    latest = checkpoint.latest_checkpoint(folder / checkpoint.CHECKPOINTS)
    if latest:
        state = checkpoint.load_position(latest, recipe)
        checkpoint.load_weights(latest, model)
        checkpoint.load_optimiser(latest, model, optimiser)
    else:
        load_initial_weights(model)
        if workers.rank == 0:
            write_atomically(folder / "recipe.yaml", to_yaml(recipe))
    if recipe.training.compile:
        for layer in (*model.encoder.layers, *model.decoder.layers):
            layer.compile()  # one graph for all layers of a kind
    parallel = _parallel(model) if workers.world > 1 else model
    training = TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer)
    dev = dev_utterances(corpus, tokenizer)
    parts = recipe.optimiser.accumulate
    return Run(recipe, folder, workers, corpus, tokenizer, model, parallel, optimiser, training, dev, state, parts)


def _parallel(model: Recogniser) -> DistributedDataParallel:
    """Buffers never change, so none is sent each step; gradients live in the buckets that are."""
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def fit(run: Run) -> None:
    """Choose how many parts a step has, for this machine: a run that goes on may be on another one."""
    keep_freed_memory(False)  # a try that failed has to give back all that it took, to whatever asks for it
    run.accumulate = parts_that_fit(run.model, run.optimiser, run.training, run.workers, run.state.epoch)
    # Where memory is short none is kept: what the heap holds, libraries that map pages of their own cannot have.
    keep_freed_memory(run.accumulate == run.recipe.optimiser.accumulate)


def train_epoch(run: Run) -> None:
    """All steps of the next epoch; the state then holds the mean of each loss term over them."""
    began = time.monotonic()
    workers, epoch = run.workers, run.state.epoch
    torch.manual_seed(_epoch_seed(run.state, workers.rank))
    plan = run.training.plan(epoch)
    run.model.train()
    keeper = Keeper(run.folder, workers.rank, run.recipe.hash, run.training)
    sums = torch.zeros(4, dtype=torch.float64, device=workers.device)
    before: Attempt | None = None
    for index, batch in enumerate(plan):
        attempt = Attempt(epoch + 1, index + 1, run.state.step + index + 1, batch)
        with keeper.keeping(attempt):
            sums += take(run, attempt, (epoch + index / len(plan)) / run.recipe.training.epochs)
        if before:
            check(keeper, before)
        before = attempt
    if before:
        check(keeper, before)
    total, ctc, attention, inter_ctc = (value / len(plan) for value in workers.summed(sums.tolist()))
    losses = {"train/loss": total, "train/loss_ctc": ctc, "train/loss_attention": attention}
    if run.recipe.loss.inter_ctc.layers:
        losses["train/loss_inter_ctc"] = inter_ctc
    losses |= {"train/accumulate": float(run.accumulate), "train/seconds": time.monotonic() - began}
    run.state = replace(run.state, epoch=epoch + 1, step=run.state.step + len(plan), losses=losses)


def take(run: Run, attempt: Attempt, progress: float) -> Tensor:
    """The attempt's step, when a share `progress` of the training is done: the sums of its four loss terms (4,)."""
    settings, workers = run.recipe.optimiser, run.workers
    rate = learning_rate(settings, attempt.global_step - 1, progress)
    seed = run.state.seed + run.state.epoch
    attempt.parts = run.training.share(attempt.batch, workers.rank, workers.world, run.accumulate, seed)
    parts = [part.to(workers.device) for part in attempt.parts]
    precision = run.recipe.training.precision
    attempt.taken = train_step(run.parallel, parts, run.optimiser, rate, settings.clip_norm, precision)
    terms = [torch.stack((one.total, one.ctc, one.attention, one.inter_ctc)) for one in attempt.taken.losses]
    return torch.stack(terms).detach().double().sum(dim=0)


def check(keeper: Keeper, attempt: Attempt) -> None:
    """A NonFiniteLossError where the attempt's step was not taken; its batch is then kept."""
    assert attempt.taken is not None
    with keeper.keeping(attempt):
        attempt.taken.check(f" {attempt.place}")


def _epoch_seed(state: checkpoint.TrainingPosition, rank: int) -> int:
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
