"""What kind of failure a trial met, as far as it decides anything."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAYS_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")  # safetensors, SQLite


class FailureKind(StrEnum):
    """What went wrong, as far as it decides anything."""

    LOST = "lost"  # a worker, its driver or their machine is gone, or was preempted
    START = "start"  # the workers' process group did not form
    OUT_OF_MEMORY = "out of memory"  # even with the batch split into single utterances
    IMPOSSIBLE = "impossible"  # the recipe makes no model, or fits no data
    NON_FINITE = "non-finite"  # the loss or the objective is no number
    ERROR = "error"  # any other exception in training
    DISK_FULL = "disk full"


@dataclass(frozen=True)
class Failure:
    """A trial that broke, and why in one line."""

    kind: FailureKind
    reason: str


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that no space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(words in str(error) for words in _SAYS_FULL):
            return True
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False
