"""An epoch that was stopped within: what is kept of it, and going on from there.

The ranks agree on the step without a collective of its own: each step sums over ranks whether one was asked to stop,
with the loss. The host reads that of the step before, when the next one is under way, so training stops one step later.
"""

from __future__ import annotations

from model.errors import TrainingInterruptedError
from model.training.broken_batch import TrainingStep
from model.training.epoch_statistics import EpochStatistics
from model.training.run import TrainingRun
from model.training.skipped_steps import SkippedSteps
from model.weights.checkpoint_files import EpochPart


def asks_to_stop(step: TrainingStep) -> bool:
    """Whether a rank was asked to stop when it took this step; the same on all ranks."""
    assert step.result is not None
    return step.result.asks_to_stop()


def make_part(statistics: EpochStatistics, skipped: SkippedSteps) -> EpochPart:
    """What is done of the epoch, the same on all ranks."""
    return EpochPart(
        steps=statistics.steps,
        skipped=skipped.count,
        skipped_in_a_row=skipped.in_a_row,
        rate=statistics.rate,
        peak_rate=statistics.peak_rate,
        figures=statistics.collect(),
    )


def restore_part(part: EpochPart | None, statistics: EpochStatistics, skipped: SkippedSteps) -> int:
    """Go on from what is done of the epoch; the number of steps of it."""
    if part is None:
        return 0
    statistics.restore(part)
    skipped.count, skipped.in_a_row = part.skipped, part.skipped_in_a_row
    return part.steps


def raise_if_stopped(run: TrainingRun) -> None:
    """A TrainingInterruptedError on all ranks where one was asked to stop; all that was trained has been saved."""
    if not run.context.max_over_ranks([float(run.stop.is_made)])[0]:
        return
    done = f"after epoch {run.state.epoch}" if run.state.epoch else "before its first step"
    if part := run.state.part:
        done = f"after step {part.steps} of epoch {run.state.epoch + 1}"
    raise TrainingInterruptedError(done)
