"""The kinds of failure of a trial that decisions distinguish."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum

_FULL = (errno.ENOSPC, errno.EDQUOT)
# A file system that does not answer any more, or that has become read-only; an expired ticket of its user.
_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO),
)
_FULL_MESSAGES = (
    "No space left on device",  # safetensors, and other errors that have no number
    "Disk quota exceeded",
    "database or disk is full",  # SQLite
    "local disk's utilization is over capacity",  # Ray's object store
)


class FailureKind(StrEnum):
    """What failed, as far as a decision depends on it."""

    LOST = "lost"  # a worker, its driver or their machine is gone
    PREEMPTED = "preempted"  # the machine will be taken, as was announced, and the trial left it with a checkpoint
    START = "start"  # the workers' process group did not form
    SPLIT = "split"  # a step ran out of memory; from the checkpoint on such batches are taken in more parts
    OUT_OF_MEMORY = "out of memory"  # even with the batch split into single utterances
    IMPOSSIBLE = "impossible"  # the recipe makes no model, or fits no data
    NON_FINITE = "non-finite"  # the loss or the objective is not finite
    ERROR = "error"  # any other exception in training
    DISK_FULL = "disk full"  # the storage, or one of the node's own
    STORAGE = "storage"  # a worker's node does not see the study's folder as the driver does
    OBJECT_STORE = "object store"  # it has not answered for too long, or refuses what it took before


@dataclass(frozen=True)
class Failure:
    """The failure of a trial: its kind, and the reason in one line.

    `node` is the host of the worker that failed and `node_id` Ray's id of it, where these are known. `lacks_room`: the
    workers never started, since what they need was not free.
    """

    kind: FailureKind
    reason: str
    node: str | None = None
    node_id: str | None = None
    lacks_room: bool = False


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one of its causes, reports that no space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(message in str(error) for message in _FULL_MESSAGES):
            return True
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def is_place_unusable(error: OSError) -> bool:
    """Whether an error says that a file system, or its user's right to it, has gone, whichever file was asked for."""
    return error.errno in _UNUSABLE
