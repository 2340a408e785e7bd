"""The memory probe: before the first epoch the largest steps are tried, and split until they fit in memory.

Every rank runs its own largest part forward and backward on the bare model, so nothing in a trial waits for another
rank; only whether it fitted is agreed on. No optimiser step is taken, and all state is left as it was.
Shapes: B utterances, T feature frames, S encoder frames, U labels, K buckets of the training set.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.batches import Batch, TrainingSet
from model.data.epoch_plan import Rows
from model.data.reading import AHEAD, read_ahead
from model.errors import OutOfMemoryError
from model.network.recogniser import Recogniser
from model.network.subsampling import subsampled_length
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.runtime.memory import first_sentence, hold_back_memory, is_memory_failure, release_memory
from model.runtime.progress import note_progress
from model.training.optimiser import accumulate_gradients

# What fits only just may not fit again: on a CPU, whose heap is more fragmented after every try, half of the trainings
# with few parts in some buckets failed later. On GPUs a tenth of the memory is held back while fewer parts are tried.
SPLIT_BY_BUCKET = ("cuda",)
HELD_BACK = 0.1

Parts = tuple[int, ...]  # (K,) parts that a rank's share of a batch has, by the batch's bucket


@dataclass(frozen=True)
class LargestPart:
    """A rank's largest part: its global batch, in how many parts, which of them, its padded size and its cost."""

    batch: Rows
    parts: int
    index: int
    size: tuple[int, int, int]  # utterances, frames and labels
    cost: float


def find_accumulation(
    model: Recogniser,
    optimiser: torch.optim.Optimizer,
    training_set: TrainingSet,
    context: DistributedContext,
    data_pass: int,
    kept: Parts | None = None,
) -> Parts:
    """Parts that a rank's share of a batch has to have, by bucket: the recipe's `accumulate`, doubled until they fit.

    All buckets are split alike until all fit on all ranks; then each is tried with fewer parts on GPUs. `kept` is what
    was found for another run that needs as much memory: where its largest part fits, nothing else is tried. The batches
    of all passes over the data are alike, so those of this pass are looked at, and one of the longest utterances.
    Raises an OutOfMemoryError, on all ranks, where single utterances do not fit. Model, optimiser and random state are
    left as they were.
    """
    recipe, batches = model.recipe, [*training_set.plan_pass(data_pass), training_set.longest_batch()]
    attempt = functools.partial(_try_parts, model, optimiser, training_set, context)
    if kept is not None and attempt(batches, kept)[1] is None:
        return kept
    first = parts = recipe.optimiser.accumulate
    while True:
        largest, failure = attempt(batches, (parts,) * training_set.buckets)
        if failure is None:
            break
        if parts >= max(-(-len(batch) // context.world_size) for batch in batches):
            raise OutOfMemoryError(_error_message(largest, parts, failure, recipe, context))
        parts *= 2
    found = [parts] * training_set.buckets
    if parts > first and context.device.type in SPLIT_BY_BUCKET:
        for bucket, group in _group_by_bucket(training_set, batches).items():
            found[bucket] = first
            with hold_back_memory(context.device, HELD_BACK):
                while found[bucket] < parts and attempt(group, tuple(found))[1] is not None:
                    found[bucket] *= 2
    if parts > first and context.rank == 0:
        _log_split(format_size(*_largest_batch_size(training_set, batches, recipe)), first, found)
    return tuple(found)


def _group_by_bucket(training_set: TrainingSet, batches: Sequence[Rows]) -> dict[int, list[Rows]]:
    groups: dict[int, list[Rows]] = {}
    for batch in batches:
        groups.setdefault(training_set.find_bucket(batch), []).append(batch)
    return groups


def _log_split(size: str, first: int, found: Sequence[int]) -> None:
    message = "the largest batch (%s) does not fit in memory: each worker's share is split in %s parts instead of %d"
    fewest, most = min(found), max(found)
    logging.getLogger(__name__).warning(message, size, most if fewest == most else f"{fewest} to {most}", first)


def _try_parts(
    model: Recogniser,
    optimiser: torch.optim.Optimizer,
    training_set: TrainingSet,
    context: DistributedContext,
    batches: Sequence[Rows],
    parts: Parts,
) -> tuple[LargestPart, str | None]:
    """Try this rank's largest part of the batches: the part, and where any rank's did not fit, why."""
    largest = find_largest_part(training_set, model.recipe, batches, context, parts)
    failure = _run_part(model, optimiser, training_set, largest, context)
    failed = _any_rank_failed(failure is not None, context)
    note_progress()
    return largest, (failure or "on another worker") if failed else None


def find_largest_part(
    training_set: TrainingSet,
    recipe: Recipe,
    batches: Sequence[Rows],
    context: DistributedContext,
    parts: Parts,
) -> LargestPart:
    """The part with the highest activation cost among this rank's parts of all batches."""

    def candidates() -> Iterator[LargestPart]:
        for batch in batches:
            share = batch[context.rank :: context.world_size]
            share = share if len(share) else batch[:1]
            count = parts[training_set.find_bucket(batch)]
            for index in range(min(count, len(share))):
                size = _padded_size(training_set, share[index::count])
                yield LargestPart(batch, count, index, size, activation_cost(recipe, *size))

    return max(candidates(), key=lambda part: part.cost)


def activation_cost(recipe: Recipe, utterances: int, frames: int, labels: int) -> float:
    """About how many numbers a part of B utterances, padded to T frames and U labels, keeps for its backward pass.

    It ranks parts and is no estimate in bytes: memory grows with more than length alone.
    """
    encoder, decoder = recipe.encoder, recipe.decoder
    states, classes = subsampled_length(frames), recipe.tokenizer.vocabulary
    convolutions = encoder.channels * (frames // 2 * 39 + states * 19)
    inner = 12 * encoder.width + 4 * encoder.feed_forward + 2 * encoder.cgmlp
    encoder_layers = encoder.layers * (states * inner + 4 * encoder.heads * states**2)
    ctc_logits = 3 * classes * (states * (1 + len(recipe.loss.inter_ctc.layers)))
    per_label = 14 * decoder.width + 2 * decoder.feed_forward + decoder.heads * (labels + 2 * states)
    decoder_layers = decoder.layers * (labels * per_label + 2 * states * decoder.width)
    classifier_logits = 3 * classes * labels * (1 + len(recipe.loss.auxiliary.placement))
    return utterances * float(convolutions + encoder_layers + ctc_logits + decoder_layers + classifier_logits)


def _padded_size(training_set: TrainingSet, rows: Rows) -> tuple[int, int, int]:
    """Utterances, frames and labels of a part with its padding."""
    utterances = training_set.utterances
    return len(rows), int(utterances.frames[rows].max()), int(utterances.label_counts[rows].max())


def _run_part(
    model: Recogniser,
    optimiser: torch.optim.Optimizer,
    training_set: TrainingSet,
    largest: LargestPart,
    context: DistributedContext,
) -> str | None:
    """Run the part forward and backward beside all else that a step holds; why an allocation failed, or None."""
    was_training, device, recipe = model.training, context.device, model.recipe
    try:
        # Read as training reads, so that what is read ahead takes its room here too.
        load = functools.partial(_load, training_set, context, largest.parts)
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            contextlib.closing(read_ahead(load, [largest.batch] * (AHEAD + 1))) as read,
        ):
            batches = [part.to(device) for part in next(read)]
            moments = _allocate_missing_moments(optimiser, 3 if recipe.training.choose == "ema" else 2)
            if len(batches) > 1:  # this part goes forward beside the gradients of those before it
                _allocate_gradients(optimiser)
            accumulate_gradients(model.train(), batches[largest.index], recipe.training.precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            del moments
    except Exception as error:
        # Any other fault of the batch is raised again in training, which writes the batch down.
        return first_sentence(error) if is_memory_failure(error) else None
    finally:
        optimiser.zero_grad(set_to_none=True)
        model.train(was_training)
    return None


def _load(training_set: TrainingSet, context: DistributedContext, parts: int, batch: Rows) -> list[Batch]:
    return training_set.load_share(batch, context.rank, context.world_size, parts, "probe")


def _trained_parameters(optimiser: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]


def _allocate_missing_moments(optimiser: torch.optim.Optimizer, count: int) -> list[Tensor]:
    """Room for AdamW's moments, and a moving average, of each parameter without them: the first step makes them."""
    new = [parameter for parameter in _trained_parameters(optimiser) if not optimiser.state.get(parameter)]
    return [torch.empty_like(parameter) for parameter in new for _ in range(count)]


def _allocate_gradients(optimiser: torch.optim.Optimizer) -> None:
    for parameter in _trained_parameters(optimiser):
        parameter.grad = torch.zeros_like(parameter)


def _any_rank_failed(failed: bool, context: DistributedContext) -> bool:
    """Whether an allocation failed on any rank; then all ranks release memory before the next trial."""
    if failed:
        release_memory()  # the sum over ranks allocates too
    any_failed = context.sum_over_ranks([float(failed)])[0] > 0
    if any_failed and not failed:
        release_memory()
    return any_failed


def _largest_batch_size(training_set: TrainingSet, batches: Sequence[Rows], recipe: Recipe) -> tuple[int, int]:
    """Utterances and frames of the largest global batch."""
    sizes = (_padded_size(training_set, batch) for batch in batches)
    return max(sizes, key=lambda size: activation_cost(recipe, *size))[:2]


def format_size(utterances: int, frames: int) -> str:
    return f"{utterances} utterance{'s' if utterances > 1 else ''} x {frames} frames"


def _error_message(largest: LargestPart, parts: int, failure: str, recipe: Recipe, context: DistributedContext) -> str:
    size = format_size(*largest.size[:2])
    return (
        f"out of memory in trying the largest batch on {context.device}: not even {size} fit, in {parts} parts of one "
        f"utterance ({failure}); lower data.longest_seconds, now {recipe.data.longest_seconds:g}, or the model's sizes"
    )
