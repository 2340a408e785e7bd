"""Before the first epoch: the worst step is tried, and split by gradient accumulation until it fits in memory.

Each worker runs its own largest part forward and backward on the bare model, so nothing in a try waits for another
worker; only whether it fitted is agreed on. No optimiser step is taken, and training goes on as if nothing had been.
Shapes: B utterances, T feature frames, S encoder frames, U labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.batches import TrainingSet
from model.errors import OutOfMemoryError
from model.network.recogniser import Recogniser
from model.network.subsampling import subsampled_length
from model.recipe.recipe import Recipe
from model.runtime.memory import first_words, give_back_memory, is_memory_failure
from model.runtime.workers import Workers
from model.training.optimiser import add_gradients


@dataclass(frozen=True)
class Worst:
    """A worker's largest part: of which global batch, which of this worker's parts of it, of what size."""

    batch: list[str]
    index: int
    size: tuple[int, int, int]  # utterances, frames and labels, padded
    cost: float


def parts_that_fit(
    model: Recogniser, optimiser: torch.optim.Optimizer, training: TrainingSet, workers: Workers, epoch: int
) -> int:
    """Parts of each worker's share of a batch: the recipe's `accumulate`, doubled until the worst part fits everywhere.

    The batches of all epochs are alike, so those of one epoch are looked at, and one of the longest utterances. An
    OutOfMemoryError, on all workers, where single utterances do not fit. Model, optimiser and random state are left as
    they were.
    """
    recipe, batches = model.recipe, [*training.plan(epoch), training.longest()]
    share = max(-(-len(batch) // workers.world) for batch in batches)  # utterances of the largest one
    first = parts = recipe.optimiser.accumulate
    while True:
        worst = worst_part(training, recipe, batches, workers, parts)
        failure = _failure(model, optimiser, training, worst, parts, workers)
        if not _any_failed(failure is not None, workers):
            break
        if parts >= share:
            raise OutOfMemoryError(_message(worst, parts, failure or "on another worker", recipe, workers))
        parts *= 2
    if parts > first and workers.rank == 0:
        words = "the worst batch (%s) does not fit in memory: each worker's share is split in %d parts instead of %d"
        logging.getLogger(__name__).warning(words, size_words(*_whole(training, batches, recipe)), parts, first)
    return parts


def worst_part(
    training: TrainingSet, recipe: Recipe, batches: Sequence[list[str]], workers: Workers, parts: int
) -> Worst:
    """The part that takes most memory among this worker's of all batches, as `cost` has it."""

    def candidates() -> Iterator[Worst]:
        for batch in batches:
            mine = batch[workers.rank :: workers.world] or batch[:1]
            for index in range(min(parts, len(mine))):
                size = _padded(training, mine[index::parts])
                yield Worst(batch, index, size, cost(recipe, *size))

    return max(candidates(), key=lambda one: one.cost)


def cost(recipe: Recipe, utterances: int, frames: int, labels: int) -> float:
    """About how many numbers a part of B utterances, padded to T frames and U labels, keeps for its backward pass.

    Not to be read as bytes: it ranks parts by what memory grows with, which is not length alone.
    """
    encoder, decoder = recipe.encoder, recipe.decoder
    states, classes = int(subsampled_length(frames)), recipe.tokenizer.vocabulary
    maps = encoder.channels * (frames // 2 * 39 + states * 19)
    inner = 12 * encoder.width + 4 * encoder.feed_forward + 2 * encoder.cgmlp
    encoded = encoder.layers * (states * inner + 4 * encoder.heads * states**2)
    scored = 3 * classes * (states * (1 + len(recipe.loss.inter_ctc.layers)))
    per_label = 14 * decoder.width + 2 * decoder.feed_forward + decoder.heads * (labels + 2 * states)
    decoded = decoder.layers * (labels * per_label + 2 * states * decoder.width)
    classified = 3 * classes * labels * (1 + len(recipe.loss.auxiliary.placement))
    return utterances * float(maps + encoded + scored + decoded + classified)


def _padded(training: TrainingSet, ids: Sequence[str]) -> tuple[int, int, int]:
    """Utterances, frames and labels of a part with its padding."""
    utterances = training.utterances
    return len(ids), max(map(utterances.length, ids)), max(len(utterances.labels[one]) for one in ids)


def _failure(
    model: Recogniser,
    optimiser: torch.optim.Optimizer,
    training: TrainingSet,
    worst: Worst,
    parts: int,
    workers: Workers,
) -> str | None:
    """What failed to get memory as the worst part went forward and backward beside all that a step holds."""
    was_training, device, recipe = model.training, workers.device, model.recipe
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            share = training.share(worst.batch, workers.rank, workers.world, parts, recipe.training.seed)
            held = [part.to(device) for part in share]
            room = _moments_to_come(optimiser)
            if len(held) > 1:  # those of the parts before are there while this one goes forward
                _start_gradients(optimiser)
            add_gradients(model.train(), held[worst.index], recipe.training.precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            del room
    except Exception as error:
        # Whatever else is wrong with the batch comes up again in training, which keeps it and tells of it.
        return first_words(error) if is_memory_failure(error) else None
    finally:
        optimiser.zero_grad(set_to_none=True)
        model.train(was_training)
    return None


def _trained(optimiser: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]


def _moments_to_come(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Room for AdamW's two moments of each parameter that has none yet: the first step makes them."""
    new = [one for one in _trained(optimiser) if not optimiser.state.get(one)]
    return [torch.empty_like(one) for one in new for _ in range(2)]


def _start_gradients(optimiser: torch.optim.Optimizer) -> None:
    for one in _trained(optimiser):
        one.grad = torch.zeros_like(one)


def _any_failed(failed: bool, workers: Workers) -> bool:
    """Whether any worker lacks memory; where one does, all make room for the next try."""
    if failed:
        give_back_memory()  # agreeing takes memory too
    any_failed = workers.summed([float(failed)])[0] > 0
    if any_failed and not failed:
        give_back_memory()
    return any_failed


def _whole(training: TrainingSet, batches: Sequence[list[str]], recipe: Recipe) -> tuple[int, int]:
    """Utterances and frames of the largest global batch."""
    return max((_padded(training, batch) for batch in batches), key=lambda one: cost(recipe, *one))[:2]


def size_words(utterances: int, frames: int) -> str:
    return f"{utterances} utterance{'s' if utterances > 1 else ''} x {frames} frames"


def _message(worst: Worst, parts: int, failure: str, recipe: Recipe, workers: Workers) -> str:
    size = size_words(*worst.size[:2])
    return (
        f"out of memory in trying the worst batch on {workers.device}: not even {size} fit, its share in {parts} parts "
        f"of one ({failure}); lower data.longest_seconds, now {recipe.data.longest_seconds:g}, or the model's sizes"
    )
