"""What is left of the weights of a training that has ended: those that it chose, without what only training needs."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from model.strict import write_atomically
from model.weights.checkpoint_files import CHECKPOINTS, POSITION, WEIGHTS
from model.weights.chosen import (
    CANDIDATES,
    CHOSEN,
    CHOSEN_FILE,
    REMOVED_FILE,
    STOPPED,
    Chosen,
    find_unchosen_checkpoint,
    link_file,
    read_chosen,
    replaced_folder,
    write_chosen,
)
from model.weights.run_store import RunStore, find_store
from model.weights.stored_folders import describe_content


def keep_last_weights(folder: Path) -> None:
    """Reduce the folder of a training that has ended to what may still be asked of it: no moments, no candidates.

    A training that was stopped has chosen no weights; the last checkpoint's are kept then.
    """
    if (store := find_store(folder)) is not None:
        _keep_last_stored(folder, store)
        return
    latest = find_unchosen_checkpoint(folder)
    if latest is not None:
        with replaced_folder(folder / CHOSEN) as draft:
            link_file(latest / WEIGHTS, draft / WEIGHTS)
            write_chosen(draft, _make_stopped((latest / POSITION).read_bytes()))
    for name in (CHECKPOINTS, CANDIDATES):
        shutil.rmtree(folder / name, ignore_errors=True)


def remove_weights(folder: Path, reason: str) -> None:
    """Remove all weights of a training that has ended, wherever they are kept; `reason` says why, to whoever asks.

    Weights in an object store that are another run's stay there.
    """
    write_atomically(folder / REMOVED_FILE, reason + "\n")  # first: what is removed half is not taken for whole
    if (store := find_store(folder)) is not None and not store.place.shared:
        _remove_stored(store)
        store.folders.remove(CHOSEN)
    for name in (CHECKPOINTS, CANDIDATES, CHOSEN):
        shutil.rmtree(folder / name, ignore_errors=True)


def _keep_last_stored(folder: Path, store: RunStore) -> None:
    """`keep_last_weights` of a run in an object store: the weights are copied there, and not sent."""
    if store.place.shared:
        return
    folders, chosen = store.folders, read_chosen(folder)
    whole = folders.list_whole(CHECKPOINTS) if chosen is None or chosen.rule == STOPPED else []
    if whole:
        latest = f"{CHECKPOINTS}/{whole[-1]}"
        marker, position = folders.read_marker(latest), folders.store.read(f"{latest}/{POSITION}")
        if marker is None or position is None:
            return  # another process trains here
        chosen = _make_stopped(position)
        content = json.dumps(asdict(chosen)).encode()
        folders.remove(CHOSEN)
        if not folders.store.copy(f"{latest}/{WEIGHTS}", f"{CHOSEN}/{WEIGHTS}"):
            return
        folders.store.write(f"{CHOSEN}/{CHOSEN_FILE}", content)
        folders.write_marker(CHOSEN, {WEIGHTS: marker[WEIGHTS], CHOSEN_FILE: describe_content(content)})
        with replaced_folder(folder / CHOSEN) as draft:
            write_chosen(draft, chosen)
    _remove_stored(store)


def _remove_stored(store: RunStore) -> None:
    """Remove what only training needs."""
    for kind in (CHECKPOINTS, CANDIDATES):
        for name in store.folders.list_names(kind):
            store.folders.remove(f"{kind}/{name}")


def _make_stopped(position: bytes) -> Chosen:
    """What was chosen of a training that was stopped, from the position of its last checkpoint."""
    content = json.loads(position)
    return Chosen(
        rule=STOPPED,
        epochs=(content["epoch"],),
        epoch=content["epoch"],
        step=content["step"],
        recipe_hash=content["recipe_hash"],
        tokens_per_second=content.get("tokens_per_second"),
    )
