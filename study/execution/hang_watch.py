"""A command's own work on a study that hangs, such as a preparation whose file system does not answer: it ends with one
line, after the time that the study file sets."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from model.runtime import hang_watch


def end_hanging(
    what: str, seconds: float | None, computes: bool = True, folder: Path | None = None
) -> AbstractContextManager[None]:
    """Raise a UserError in the block once it has been without progress for `seconds`; None: never.

    With `computes`, the use of the CPU is progress too. The stacks are kept in `folder`, as far as that can be written.
    """
    return hang_watch.end_hanging(hang_watch.Work(what, "failures.stall_seconds", computes, folder=folder), seconds)
