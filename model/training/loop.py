"""The training loop: epochs of steps, each followed by a checkpoint, scores on the dev sets and a report."""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from model.data.epoch_plan import DataPosition, PlannedBatch
from model.data.reading import Share, read_shares
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext, current_context
from model.runtime.memory import clear_tracebacks, convert_memory_failures, keep_freed_memory, release_memory
from model.runtime.progress import note_progress
from model.runtime.stop_request import StopRequest
from model.strict import to_yaml, write_atomically
from model.training.broken_batch import BrokenBatchWriter, TrainingStep
from model.training.ending import choose_and_save, read_finished, score_chosen, validate
from model.training.epoch_part import asks_to_stop, make_part, raise_if_stopped, restore_part
from model.training.epoch_statistics import EpochStatistics
from model.training.kept_parts import keep, make_key, read_kept, read_needed
from model.training.learning_rate import learning_rate
from model.training.memory_probe import find_accumulation
from model.training.moving_average import update_average
from model.training.optimiser import StepResult, train_step
from model.training.run import ScoredRun, TrainingRun, find_resumption, load_scored_run, start_or_resume
from model.training.schedules import list_scheduled, record_wer, schedule_step
from model.training.skipped_steps import SkippedSteps
from model.training.step_memory import take_in_memory
from model.weights import checkpoint_files
from model.weights.chosen import Candidate, Chosen, keep_candidate
from model.weights.run_checkpoints import mark_run_reported, save_run_checkpoint
from model.weights.run_store import begin_training, end_training

Report = Callable[[dict[str, float]], bool | None]  # False: stop training


def train(
    recipe: Recipe,
    folder: Path,
    report: Report,
    score_tests: bool = True,
    parts_file: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Train the recipe in `folder`, from its last checkpoint if it has one, and score the weights that are chosen.

    `report` is called on every rank after each epoch, when its checkpoint is on disk; the metrics are the same on all
    ranks. Where it returns False, on all ranks, training stops here, and another call resumes from the checkpoint. The
    last epoch's report has `last_epoch`. Another report follows it, with `finished`: the dev sets' metrics with the
    chosen weights by the recipe's `validation`, `dev/wer_final` by its `decoding`, and with `score_tests` the metrics
    of the test sets. An epoch whose report did not return is reported again when the run is resumed; a run that has
    come to its end is scored again, and makes the report with `finished` alone.

    Where memory is short, `parts_file` keeps how batches were split, for other runs that need as much.

    Where `stop` asks one rank to stop, all stop after the same step, and raise a TrainingInterruptedError once its
    checkpoint is written. Another call goes on from there, to the same weights and figures. While dev or test sets are
    scored, the request waits for their end.

    Raises a NonFiniteLossError, or an OutOfMemoryError where not even single utterances fit in memory; the batch whose
    step failed is then in `folder`. Of several workers one may raise a SplitFurtherError, while the others wait for it:
    in new processes, another call goes on from the last checkpoint with such batches in more parts. However training
    ends, this process keeps nothing of the run in memory, and the next run starts as in a new process.
    """
    outer = sys.exception()
    try:
        begin_training(folder)
        _train(recipe, folder, report, score_tests, parts_file, stop or StopRequest())
    except BaseException as error:
        clear_tracebacks(error, outer)
        raise
    finally:
        end_training(folder)
        if recipe.training.compile:
            torch.compiler.reset()  # else the next recipe's layers are variants of these, of which torch allows few
        release_memory()


def _train(
    recipe: Recipe, folder: Path, report: Report, score_tests: bool, parts_file: Path | None, stop: StopRequest
) -> None:
    context = current_context()
    run: ScoredRun | None = None
    chosen = read_finished(recipe, folder, context)
    if chosen is None:
        run, chosen = _train_to_end(recipe, folder, report, context, parts_file, stop)
    else:
        run = load_scored_run(recipe, folder, context)
        if context.rank == 0:  # it may name another decoding
            write_atomically(folder / "recipe.yaml", to_yaml(recipe))
    if chosen is not None:
        report(score_chosen(run, chosen, score_tests))


def _train_to_end(
    recipe: Recipe,
    folder: Path,
    report: Report,
    context: DistributedContext,
    parts_file: Path | None,
    stop: StopRequest,
) -> tuple[TrainingRun, Chosen | None]:
    """Train all epochs that are left; the run, and what was chosen, or None where a report stopped training."""
    with convert_memory_failures("making the model and reading the corpus", "lower the model's sizes"):
        resumption = find_resumption(recipe, folder, context)
        run = start_or_resume(recipe, folder, context, resumption)
    run.stop = stop
    go_on = True
    if run.state.epoch and not resumption.is_reported:
        go_on = evaluate_and_report(run, report)  # it was stopped between a checkpoint and the end of its report
    elif run.state.epoch and run.state.part is None and recipe.optimiser.decay == "plateau" and not run.is_finished:
        record_wer(run, score_dev(run))  # the rate follows it, and it came after the checkpoint
    if go_on and not run.is_finished:
        choose_accumulation(run, parts_file)
    while go_on and not run.is_finished:
        raise_if_stopped(run)
        with stop.unsaved():
            train_epoch(run)
            save(run)
        raise_if_stopped(run)
        go_on = evaluate_and_report(run, report)
    return run, choose_and_save(run) if go_on else None


def choose_accumulation(run: TrainingRun, parts_file: Path | None = None) -> None:
    """Choose how many parts a step has on this machine: a run may be resumed on another one."""
    recipe, context = run.recipe, run.context
    keep_freed_memory(False)  # a trial that failed has to return all its memory to the system
    key = make_key(recipe, context)
    kept = read_kept(parts_file, key, context) if parts_file else None
    found = find_accumulation(run.model, run.optimiser, run.training_set, context, run.state.passes, kept)
    needed = read_needed(run.folder, key, context, len(found))  # by steps that ran out of memory later
    run.parts = tuple(max(parts) for parts in zip(found, needed, strict=True))
    is_whole = set(run.parts) == {recipe.optimiser.accumulate}
    if parts_file and context.rank == 0 and run.parts != kept and not is_whole:
        keep(parts_file, key, run.parts)
    # Where memory is short, freed memory is not kept: libraries that map their own pages cannot use the heap's.
    keep_freed_memory(is_whole)


def train_epoch(run: TrainingRun) -> None:
    """All steps of the next epoch that are left; the state then holds its figures.

    Where a rank was asked to stop, the state holds the part of the epoch that is done.
    """
    context, epoch, settings = run.context, run.state.epoch, run.recipe.training
    start = DataPosition(run.state.passes, run.state.batches)
    steps = run.training_set.epoch_steps(settings)
    plan, end = run.training_set.plan_epoch(start, steps)
    run.model.train()
    writer = BrokenBatchWriter(run.folder, context.rank, run.recipe.hash, run.training_set)
    statistics = EpochStatistics(run.model, context)
    skipped = SkippedSteps(settings, writer, len(plan), in_a_row=run.state.skipped_in_a_row)
    first = restore_part(run.state.part, statistics, skipped)
    previous: TrainingStep | None = None
    stops = False
    shares = [choose_share(run, batch) for batch in plan[first:]]
    with contextlib.closing(read_shares(run.training_set, shares)) as read:
        for index, batch in enumerate(plan[first:], start=first):
            step = TrainingStep(epoch + 1, index + 1, run.state.step + index + 1, batch)
            with writer.write_on_error(step):
                with statistics.measure_wait():
                    step.parts = next(read)
                rate = run_step(run, step, (epoch + (index + 0.5) / len(plan)) / settings.epochs)
            statistics.add(step, rate)
            note_progress()
            if previous:  # not this step, which a GPU may still work on
                skipped.check(previous)
                stops = asks_to_stop(previous)
            previous = step
            if stops:
                break
    if previous:
        skipped.check(previous)
    if stops and statistics.steps < len(plan):
        run.state = replace(run.state, part=make_part(statistics, skipped))
        return
    peak = max(statistics.peak_rate, run.state.losses.get("train/peak_learning_rate", 0.0))
    figures = statistics.reduce(len(plan) - skipped.count) | {
        "train/peak_learning_rate": peak,
        "train/skipped": float(skipped.count),
        "train/accumulate": float(max(run.parts)),
    }
    figures |= list_scheduled(run.recipe.loss, (epoch + 1) / settings.epochs)
    if steps is not None:
        figures["train/data_passes"] = end.passes + end.batches / run.training_set.count_steps(end.passes)
    run.state = replace(
        run.state,
        epoch=epoch + 1,
        step=run.state.step + len(plan),
        passes=end.passes,
        batches=end.batches,
        skipped_in_a_row=skipped.in_a_row,
        seconds=run.state.seconds + figures["train/seconds"],
        losses=figures,
        part=None,
    )


def choose_share(run: TrainingRun, batch: PlannedBatch) -> Share:
    """This rank's share of a batch, in as many parts as fit, and what its random draws depend on."""
    draw = f"{run.state.seed}/{batch.data_pass}"
    parts = run.parts[run.training_set.find_bucket(batch.rows)]
    return Share(run.data, batch.rows, run.context.rank, run.context.world_size, parts, draw)


def run_step(run: TrainingRun, step: TrainingStep, progress: float) -> float:
    """Take an optimiser step, of parts that were loaded, when a share `progress` of the training is done.

    Returns its learning rate.
    """
    settings = run.recipe.optimiser
    rate = learning_rate(settings, step.global_step - 1, progress, run.state.plateau_wers)
    schedule_step(run.model, run.state.seed, step.global_step, progress)
    # No function within this one: it would keep the run as long as an error's traceback is kept.
    step.result = take_in_memory(run, step, functools.partial(_take, run, step, rate))
    if run.recipe.training.choose == "ema":
        update_average(run.optimiser, run.recipe.training.ema_decay, step.global_step)
    return rate


def _take(run: TrainingRun, step: TrainingStep, rate: float) -> StepResult:
    precision, clip_norm = run.recipe.training.precision, run.recipe.optimiser.clip_norm
    parts = [part.to(run.context.device) for part in step.parts]
    torch.manual_seed(dropout_seed(run.state.seed, step.global_step, run.context.rank))
    return train_step(run.parallel_model, parts, run.optimiser, rate, clip_norm, precision, run.stop.is_made)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """A seed for each step of the run and rank: a step after a resume draws what it would have drawn otherwise."""
    return random.Random(f"{seed}/{step}/{rank}").getrandbits(63)


def save(run: TrainingRun) -> None:
    """Rank 0 writes the checkpoint; all ranks wait until it is there."""
    if run.context.rank == 0:
        save_run_checkpoint(run.folder, run.model, run.optimiser, run.state)
    run.context.barrier()


def evaluate_and_report(run: TrainingRun, report: Report) -> bool:
    """Score the dev sets, keep the weights where they may be chosen, and report all metrics; whether to go on."""
    scores = score_dev(run)
    record_wer(run, scores)
    if run.context.rank == 0:
        weights = checkpoint_files.checkpoint_path(run.checkpoints, run.state.epoch) / checkpoint_files.WEIGHTS
        keep_candidate(run.folder, weights, Candidate(run.state.epoch, scores), run.recipe.training)
    metrics = {"epoch": run.state.epoch, "step": run.state.step, **run.state.losses, **scores}
    if run.is_finished:
        metrics["last_epoch"] = 1.0
    go_on = report(metrics) is not False
    if run.context.rank == 0:
        mark_run_reported(run.folder, run.state.epoch)
    return go_on


def score_dev(run: ScoredRun) -> dict[str, float]:
    """The metrics of the dev sets, by the recipe's `validation`."""
    began = time.monotonic()
    metrics = validate(run)
    return metrics | {"dev/seconds": time.monotonic() - began}
