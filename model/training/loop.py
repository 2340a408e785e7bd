"""The training loop: epochs of steps, each followed by a checkpoint, scores on the dev sets and a report."""

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

from model.data.batches import TrainingSet
from model.data.corpus import Corpus
from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.data.utterances import Utterances
from model.evaluation.scoring import (
    compute_metrics,
    load_dev_utterances,
    score_set,
    score_test_sets,
    write_hypotheses,
)
from model.network.kernels.precision import has_bf16_units
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext, current_context
from model.runtime.memory import clear_tracebacks, convert_memory_failures, keep_freed_memory, release_memory
from model.strict import to_yaml, write_atomically
from model.training.broken_batch import BrokenBatchWriter, TrainingStep
from model.training.memory_probe import find_accumulation
from model.training.optimiser import freeze, learning_rate, make_optimiser, train_step
from model.training.prepare import load_corpus, load_run_tokenizer, load_tokenizer
from model.weights import checkpoint
from model.weights.initial import load_initial_weights

Report = Callable[[dict[str, float]], bool | None]  # False: stop training


@dataclass
class TrainingRun:
    """A recipe being trained in a folder: what stays the same, and `state`, which every epoch replaces.

    `parallel_model` is the model, in DDP where there are several ranks. `accumulate` is the number of parts that a
    rank's share of a batch has: the recipe's, or more where memory is short.
    """

    recipe: Recipe
    folder: Path
    context: DistributedContext
    corpus: Corpus
    tokenizer: Tokenizer
    model: Recogniser
    parallel_model: nn.Module
    optimiser: torch.optim.Optimizer
    training_set: TrainingSet
    dev: Utterances
    state: checkpoint.TrainingPosition
    accumulate: int

    @property
    def checkpoints(self) -> Path:
        return self.folder / checkpoint.CHECKPOINTS

    @property
    def hypotheses(self) -> Path:
        return self.folder / "hypotheses"

    @property
    def is_finished(self) -> bool:
        return self.state.epoch >= self.recipe.training.epochs


def train(recipe: Recipe, folder: Path, report: Report) -> None:
    """Train the recipe in `folder`, from its last checkpoint if it has one.

    `report` is called on every rank after each epoch, when its checkpoint is on disk; the metrics are the same on all
    ranks. Where it returns False, on all ranks, training stops here, and another call resumes from the checkpoint. The
    last report also has the metrics of the test sets, and `finished`. An epoch whose report did not return is reported
    again when the run is resumed; the last epoch is reported again whenever a finished run is started.

    Raises a NonFiniteLossError, or an OutOfMemoryError where not even single utterances fit in memory; the batch whose
    step failed is then in `folder`. However training ends, this process keeps nothing of the run in memory, and the
    next run starts as in a new process.
    """
    outer = sys.exception()
    try:
        _train(recipe, folder, report)
    except BaseException as error:
        clear_tracebacks(error, outer)
        raise
    finally:
        if recipe.training.compile:
            torch.compiler.reset()  # else the next recipe's layers are variants of these, of which torch allows few
        release_memory()


def _train(recipe: Recipe, folder: Path, report: Report) -> None:
    with convert_memory_failures("making the model and reading the corpus", "lower the model's sizes"):
        run = start_or_resume(recipe, folder, current_context())
    go_on = True
    if run.is_finished or (run.state.epoch and not checkpoint.is_reported(run.checkpoints)):
        go_on = evaluate_and_report(run, report)  # it was stopped between a checkpoint and the end of its report
    if go_on and not run.is_finished:
        choose_accumulation(run)
    while go_on and not run.is_finished:
        train_epoch(run)
        save(run)
        go_on = evaluate_and_report(run, report)


def start_or_resume(recipe: Recipe, folder: Path, context: DistributedContext) -> TrainingRun:
    """Everything that the next step needs, from the folder's last checkpoint or from the initial weights.

    A new run's recipe and tokenizer are written into the folder, which from then on can be used without the corpus.
    """
    keep_freed_memory()
    corpus = load_corpus(recipe)
    latest = checkpoint.latest_checkpoint(folder / checkpoint.CHECKPOINTS)
    state = checkpoint.load_position(latest, recipe) if latest else checkpoint.initial_position(recipe)
    tokenizer = load_run_tokenizer(recipe, folder) if latest else load_tokenizer(recipe, corpus)
    torch.manual_seed(recipe.training.seed)
    if context.rank == 0 and recipe.training.precision == "bf16" and not has_bf16_units(context.device):
        message = "training.precision is bf16, for which this processor has no units; set it to fp32, far faster here"
        logging.getLogger(__name__).warning(message)
    model = Recogniser(recipe).to(context.device)
    freeze(model, recipe.training.freeze)
    optimiser = make_optimiser(model, recipe.optimiser)
    if latest:
        checkpoint.load_weights(latest, model)
        checkpoint.load_optimiser(latest, model, optimiser)
    else:
        load_initial_weights(model)
    if context.rank == 0:
        _write_identity(recipe, tokenizer, folder, is_new=latest is None)
    if recipe.training.compile:
        for layer in (*model.encoder.layers, *model.decoder.layers):
            layer.compile()  # one graph for all layers of a kind
    parallel = _parallelise(model) if context.world_size > 1 else model
    training_set = TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer)
    dev, parts = load_dev_utterances(corpus, tokenizer), recipe.optimiser.accumulate
    fixed = recipe, folder, context, corpus, tokenizer, model, parallel, optimiser, training_set, dev
    return TrainingRun(*fixed, state, parts)


def _write_identity(recipe: Recipe, tokenizer: Tokenizer, folder: Path, is_new: bool) -> None:
    """Write what a run is loaded with beside its checkpoint; runs of older versions get their tokenizer on resume."""
    if is_new:
        write_atomically(folder / "recipe.yaml", to_yaml(recipe))
    if is_new or not (folder / TOKENIZER_FILE).is_file():
        write_atomically(folder / TOKENIZER_FILE, tokenizer.content)


def _parallelise(model: Recogniser) -> DistributedDataParallel:
    """DDP that sends no buffers, since they never change, and whose gradients are views of the buckets it sends."""
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def choose_accumulation(run: TrainingRun) -> None:
    """Choose how many parts a step has on this machine: a run may be resumed on another one."""
    keep_freed_memory(False)  # a trial that failed has to return all its memory to the system
    run.accumulate = find_accumulation(run.model, run.optimiser, run.training_set, run.context, run.state.epoch)
    # Where memory is short, freed memory is not kept: libraries that map their own pages cannot use the heap's.
    keep_freed_memory(run.accumulate == run.recipe.optimiser.accumulate)


def train_epoch(run: TrainingRun) -> None:
    """All steps of the next epoch; the state then holds the mean of each loss term over them."""
    began = time.monotonic()
    context, epoch = run.context, run.state.epoch
    torch.manual_seed(_epoch_seed(run.state, context.rank))
    plan = run.training_set.plan_epoch(epoch)
    run.model.train()
    writer = BrokenBatchWriter(run.folder, context.rank, run.recipe.hash, run.training_set)
    sums = torch.zeros(4, dtype=torch.float64, device=context.device)
    previous: TrainingStep | None = None
    for index, batch in enumerate(plan):
        step = TrainingStep(epoch + 1, index + 1, run.state.step + index + 1, batch)
        with writer.write_on_error(step):
            sums += run_step(run, step, (epoch + index / len(plan)) / run.recipe.training.epochs)
        if previous:
            check_step(writer, previous)
        previous = step
    if previous:
        check_step(writer, previous)
    total, ctc, attention, inter_ctc = (value / len(plan) for value in context.sum_over_ranks(sums.tolist()))
    losses = {"train/loss": total, "train/loss_ctc": ctc, "train/loss_attention": attention}
    if run.recipe.loss.inter_ctc.layers:
        losses["train/loss_inter_ctc"] = inter_ctc
    losses |= {"train/accumulate": float(run.accumulate), "train/seconds": time.monotonic() - began}
    run.state = replace(run.state, epoch=epoch + 1, step=run.state.step + len(plan), losses=losses)


def run_step(run: TrainingRun, step: TrainingStep, progress: float) -> Tensor:
    """Take an optimiser step when a share `progress` of the training is done; the sums of its four loss terms (4,)."""
    settings, context = run.recipe.optimiser, run.context
    rate = learning_rate(settings, step.global_step - 1, progress)
    seed = run.state.seed + run.state.epoch
    step.parts = run.training_set.load_share(step.batch, context.rank, context.world_size, run.accumulate, seed)
    parts = [part.to(context.device) for part in step.parts]
    precision = run.recipe.training.precision
    step.result = train_step(run.parallel_model, parts, run.optimiser, rate, settings.clip_norm, precision)
    terms = [torch.stack((part.total, part.ctc, part.attention, part.inter_ctc)) for part in step.result.losses]
    return torch.stack(terms).detach().double().sum(dim=0)


def check_step(writer: BrokenBatchWriter, step: TrainingStep) -> None:
    """Raise a NonFiniteLossError, and write the batch, where the step was not taken."""
    assert step.result is not None
    with writer.write_on_error(step):
        step.result.check(f" {step.place}")


def _epoch_seed(state: checkpoint.TrainingPosition, rank: int) -> int:
    """A seed for each epoch and rank, so that an epoch after a resume draws what it would have drawn otherwise."""
    return (state.seed * 1_000_003 + state.epoch) * 1_009 + rank


def save(run: TrainingRun) -> None:
    """Rank 0 writes the checkpoint; all ranks wait until it is there."""
    if run.context.rank == 0:
        checkpoint.save_checkpoint(run.checkpoints, run.model, run.optimiser, run.state)
    run.context.barrier()


def evaluate_and_report(run: TrainingRun, report: Report) -> bool:
    """Score the dev sets, after the last epoch the test sets too, and report all metrics; whether to go on."""
    metrics = {"epoch": run.state.epoch, "step": run.state.step, **run.state.losses, **score_dev(run)}
    if run.is_finished:
        scoring = run.model, run.corpus, run.recipe.decoding, run.tokenizer, run.context
        metrics |= score_test_sets(*scoring, run.hypotheses) | {"finished": 1.0}
    go_on = report(metrics) is not False
    if run.context.rank == 0:
        checkpoint.mark_reported(run.checkpoints, run.state.epoch)
    return go_on


def score_dev(run: TrainingRun) -> dict[str, float]:
    """The metrics of all dev sets together."""
    began = time.monotonic()
    scored = score_set(run.model, run.dev, run.recipe.decoding, run.tokenizer, run.context)
    write_hypotheses(scored, run.hypotheses / "dev.jsonl", run.context)
    return compute_metrics(scored, "dev") | {"dev/seconds": time.monotonic() - began}
