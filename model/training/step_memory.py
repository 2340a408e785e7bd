"""A step that runs out of memory although the probe's largest did not: it is taken in twice as many parts, not failed.

What fits once may not fit again, since memory is fragmented or other processes take some. With one worker the step is
repeated, and equals one that was split from the start: its parts, their order and the seed of its dropout are the same.
With several it fails, as the others may wait for this one's gradients already. What it needs is written down in the
run's folder, and the training that is started again goes on from its checkpoint with such batches in more parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from model.data.batches import Batch
from model.errors import SplitFurtherError
from model.runtime.memory import first_sentence, keep_freed_memory, release_memory
from model.training.broken_batch import TrainingStep
from model.training.kept_parts import make_key, read_needed_by, write_needed
from model.training.memory_probe import Parts
from model.training.optimiser import GradientMemoryError, StepResult
from model.training.run import TrainingRun


def take_in_memory(run: TrainingRun, step: TrainingStep, take: Callable[[], StepResult]) -> StepResult:
    """What `take` gives, which takes a step of the parts that `step` has then.

    Where their gradients do not fit in memory, the batches of the step's bucket have twice as many parts from now on,
    until each part is one utterance: then the GradientMemoryError is raised. With several workers the step is not
    repeated, and a SplitFurtherError is raised.
    """
    bucket = run.training_set.find_bucket(step.batch.rows)
    while True:
        step.parts = split_parts(step.parts, run.parts[bucket])
        try:
            return take()
        except GradientMemoryError as error:
            if len(step.parts) == _count_utterances(step.parts):
                raise
            reason = first_sentence(error)
        # Only here, where the error is gone, does nothing hold the tensors of the step that failed.
        run.optimiser.zero_grad(set_to_none=True)
        keep_freed_memory(False)
        release_memory()
        if run.context.world_size > 1:
            raise _write_down(run, step, bucket, reason)
        more = 2 * run.parts[bucket]
        run.parts = _replace(run.parts, bucket, more)
        message = "out of memory %s (%s): it is repeated, and batches of such lengths are split in %d parts from now on"
        logging.getLogger(__name__).warning(message, step.place, reason, more)


def _write_down(run: TrainingRun, step: TrainingStep, bucket: int, reason: str) -> Exception:
    """Write down that batches of the bucket need twice as many parts; the error that ends this try of the training.

    Each failure of a rank doubles what it has written down itself, even where the others have not seen that: so the
    tries come to an end.
    """
    context, key = run.context, make_key(run.recipe, run.context)
    written = read_needed_by(run.folder, context.rank, key, len(run.parts)) or run.parts
    if written[bucket] > run.parts[bucket] and written[bucket] >= _count_utterances(step.parts):
        return GradientMemoryError(f"{reason}, although {written[bucket]} parts were asked for before")
    more = 2 * max(written[bucket], run.parts[bucket])
    write_needed(run.folder, context.rank, key, _replace(written, bucket, more))
    return SplitFurtherError(
        f"out of memory {step.place} on worker {context.rank} of {context.world_size} ({reason}); the training that is "
        f"started again goes on from its last checkpoint, with batches of such lengths in {more} parts"
    )


def _replace(parts: Parts, bucket: int, count: int) -> Parts:
    return tuple(count if place == bucket else other for place, other in enumerate(parts))


def split_parts(parts: list[Batch], count: int) -> list[Batch]:
    """The parts of a share that was loaded in fewer, as `TrainingSet.load_share` loads them in `count`.

    `count` is a power of two times as many as they were meant to be, and an utterance is not split.
    """
    while len(parts) < min(count, _count_utterances(parts)):
        halves = [part.split_alternately() if len(part.ids) > 1 else (part, None) for part in parts]
        parts = [even for even, _ in halves] + [odd for _, odd in halves if odd is not None]
    return parts


def _count_utterances(parts: list[Batch]) -> int:
    return sum(len(part.ids) for part in parts)
