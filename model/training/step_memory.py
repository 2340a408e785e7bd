"""A step that runs out of memory although the probe's largest did not: it is taken in twice as many parts, not failed.

What fits once may not fit again, since memory is fragmented or other processes take some. With one worker the step is
repeated, and equals one that was split from the start: its parts, their order and the seed of its dropout are the same.
With several it fails, as the others may wait for this one's gradients already; the run goes on from its checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from model.data.batches import Batch
from model.runtime.memory import first_sentence, keep_freed_memory, release_memory
from model.training.broken_batch import TrainingStep
from model.training.optimiser import GradientMemoryError, StepResult
from model.training.run import TrainingRun


def take_in_memory(run: TrainingRun, step: TrainingStep, take: Callable[[], StepResult]) -> StepResult:
    """What `take` gives, which takes a step of the parts that `step` has then.

    Where their gradients do not fit in memory, the batches of the step's bucket have twice as many parts from now on,
    until each part is one utterance: then the GradientMemoryError is raised.
    """
    bucket = run.training_set.find_bucket(step.batch.rows)
    while True:
        step.parts = split_parts(step.parts, run.parts[bucket])
        try:
            return take()
        except GradientMemoryError as error:
            if run.context.world_size > 1 or len(step.parts) == _count_utterances(step.parts):
                raise
            reason = first_sentence(error)
        # Only here, where the error is gone, does nothing hold the tensors of the step that failed.
        run.optimiser.zero_grad(set_to_none=True)
        keep_freed_memory(False)
        release_memory()
        more = 2 * run.parts[bucket]
        run.parts = tuple(more if place == bucket else count for place, count in enumerate(run.parts))
        message = "out of memory %s (%s): it is repeated, and batches of such lengths are split in %d parts from now on"
        logging.getLogger(__name__).warning(message, step.place, reason, more)


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
