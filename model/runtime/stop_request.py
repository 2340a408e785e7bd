"""A request that a training writes a checkpoint after its current step and stops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class StopRequest:
    """The request to one training. It may be made from any thread and from a signal handler, which take no lock."""

    def __init__(self) -> None:
        self.is_made = False
        self.has_unsaved_steps = False  # whether steps were taken that are in no checkpoint yet

    def make(self) -> None:
        """Ask the training to stop; it cannot be taken back."""
        self.is_made = True

    @contextlib.contextmanager
    def unsaved(self) -> Iterator[None]:
        """Steps are taken and then saved in this block."""
        self.has_unsaved_steps = True
        try:
            yield
        finally:
            self.has_unsaved_steps = False
