"""Whether a worker sees the study's folder as the driver does: on a machine where a mount is missing it does not.

Without this check a trial would start at epoch 1 there, in silence, with a folder on that machine's own disk. What a
study keeps in an object store is found by `weights_at.json` in the trial's folder, which is written here.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path

from model.weights.checkpoint_files import CHECKPOINTS
from model.weights.chosen import CHOSEN
from model.weights.run_store import WeightsAt, read_weights_at, write_weights_at
from study.ledger.event_log import EVENTS
from study.ledger.ledger import MANIFEST, Ledger
from study.workers.messages import Task

WAIT_SECONDS = 10.0  # a network file system may show a new file to other machines only after seconds
_PAUSE_SECONDS = 0.5


class StorageError(Exception):
    """This machine does not see the study's folder as the driver does."""


def check_storage(task: Task, seconds: float | None = None) -> None:
    """Raise a StorageError unless the study's folder is here, with all that its driver has written; nothing is made.

    The event file of the driver's own session shows that it is the folder itself, not a copy: then it holds the
    trial's checkpoints as well, or they are gone for everybody, and the trial has to start again.
    """
    if task.study_folder is None:
        return
    deadline = time.monotonic() + (WAIT_SECONDS if seconds is None else seconds)
    while fault := _find_fault(task, Path(task.study_folder)):
        if time.monotonic() >= deadline:
            raise StorageError(f"node {socket.gethostname()} {fault}")
        time.sleep(_PAUSE_SECONDS)


def _find_fault(task: Task, folder: Path) -> str | None:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("id")
    except (OSError, ValueError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else "its manifest cannot be read"
        return f"does not see the study's folder {folder} ({why}): mount it there"
    if found != task.study_id:
        return f"has another study in {folder}: mount there what the driver's machine has under that path"
    if (task.session and not (folder / EVENTS / task.session).is_file()) or not Path(task.folder).is_dir():
        return f"has a copy of {folder} that lacks what the driver has written: mount the folder itself there"
    return None


def place_weights(ledger: Ledger, number: int) -> None:
    """Record where a trial's weights are kept, as the study file has it now.

    A trial that has begun elsewhere, in its folder or under another URL, stays there.
    """
    settings, folder = ledger.study.object_store, ledger.trial_folder(number)
    place = read_weights_at(folder)
    if place is not None:
        write_weights_at(folder, replace(place, wait_seconds=settings.wait_seconds))
    elif settings.checkpoints is not None and not any((folder / name).is_dir() for name in (CHECKPOINTS, CHOSEN)):
        url = f"{settings.checkpoints}/{study_prefix(ledger)}/trials/{number:04d}"
        write_weights_at(folder, WeightsAt(url, settings.wait_seconds))


def study_prefix(ledger: Ledger) -> str:
    """A study's folder in an object store, which other studies of its name do not have."""
    return f"{ledger.study.name}-{ledger.manifest.get('id', '')[:8]}"
