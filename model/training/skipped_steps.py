"""Steps that were not taken because their loss or gradient was not finite: too many of them end training."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from model.errors import NonFiniteLossError
from model.recipe.training import TrainingConfig
from model.training.broken_batch import BrokenBatchWriter, TrainingStep


@dataclass
class SkippedSteps:
    """The skipped ones among the `planned` steps of an epoch, and in a row also before it; the same on all ranks."""

    settings: TrainingConfig
    writer: BrokenBatchWriter
    planned: int
    count: int = 0
    in_a_row: int = 0

    def check(self, step: TrainingStep) -> None:
        """Count a step that was skipped. Raises a NonFiniteLossError, and writes its batch, when it ends training."""
        assert step.result is not None
        figures = step.result.find_fault()
        if figures is None:
            self.in_a_row = 0
            return
        self.count, self.in_a_row = self.count + 1, self.in_a_row + 1
        logging.getLogger(__name__).warning("a batch was skipped: %s %s", figures, step.place)
        if limit := self._find_limit():
            with self.writer.write_on_error(step):
                raise NonFiniteLossError(f"{figures} {step.place}: {limit}")

    def _find_limit(self) -> str | None:
        """The limit that is passed, with its setting."""
        settings = self.settings
        if self.in_a_row >= settings.skips_in_a_row:
            skipped = f"{self.in_a_row} batches in a row were" if self.in_a_row > 1 else "a batch was"
            return f"{skipped} skipped (training.skips_in_a_row {settings.skips_in_a_row})"
        allowed = max(1.0, settings.skips_share * self.planned) if settings.skips_share else 0.0
        if self.count > allowed or self.count == self.planned:
            share = f"training.skips_share {settings.skips_share:g}"
            return f"{self.count} of the {self.planned} batches of the epoch were skipped ({share})"
        return None
