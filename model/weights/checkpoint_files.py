"""Checkpoints of a run: a folder after each epoch, and after a step at which training was asked to stop.

The last two are kept. `epoch-0003` is written after epoch 3, `epoch-0003-step-00000120` after 120 steps of epoch 4.

model.safetensors       weights
optimiser.safetensors   AdamW's moments and step counts, named after the parameters
state.json              a TrainingPosition: epoch, optimiser steps and seeds. Learning rate, sampler and random state
                        follow from these, since every epoch draws from the seeds and its own number
reported                an empty file, there once the epoch's report was made

A checkpoint is written beside its place, synced to disk and then moved there, so a crash leaves it whole or not at all.
If the newest is torn all the same (a disk lost what it had confirmed, a copy broke off), the one before it is used.

What is here needs no torch, so that a study's own process need not import it; `checkpoint` writes and loads tensors.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import sync_folder

CHECKPOINTS = "checkpoints"  # the folder in a run's folder that holds them
WEIGHTS, OPTIMISER, POSITION, REPORTED = "model.safetensors", "optimiser.safetensors", "state.json", "reported"


@dataclass(frozen=True)
class EpochPart:
    """The steps of an epoch that are done, where training stopped within it, and what they contribute to its figures.

    `skipped` of the `steps` were not taken. The learning rate was `rate` in the last step and at most `peak_rate`.
    `figures` are each rank's sums (`EpochStatistics.collect`).
    """

    steps: int
    skipped: int
    skipped_in_a_row: int
    rate: float
    peak_rate: float
    figures: list[list[float]]


@dataclass(frozen=True)
class TrainingPosition:
    """Where a training is: epochs and optimiser steps done, and the seeds that order and randomness come from.

    `passes` over the data are done, and `batches` of the one after them. `skipped_in_a_row` of the last steps were not
    taken. The steps took `seconds`. `losses` are the figures of the last epoch, so that a report can be made again.
    `tokens_per_second` bounds hypotheses (model/decoding/length_limit.py). `part` is what is done of the epoch after
    these: all else is as it was when that epoch began. `plateau_wers` are what the learning rate's plateau follows, the
    dev/wer of epochs whose reports were made before this was written.
    """

    epoch: int
    step: int
    seed: int
    sampler_seed: int
    recipe_hash: str
    passes: int
    batches: int
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    tokens_per_second: float | None = None
    part: EpochPart | None = None
    plateau_wers: list[float] = field(default_factory=list)

    @property
    def steps_of_epoch(self) -> int:
        """Steps of the epoch under way that are done; 0 after an epoch."""
        return self.part.steps if self.part else 0


def initial_position(recipe: Recipe) -> TrainingPosition:
    """The position before the first step."""
    return TrainingPosition(0, 0, recipe.training.seed, recipe.data.seed, recipe.hash, passes=0, batches=0)


def checkpoint_path(folder: Path, epoch: int, steps: int = 0) -> Path:
    """Where the checkpoint is that was written after an epoch and so many steps of the next one."""
    return folder / (f"epoch-{epoch:04d}-step-{steps:08d}" if steps else f"epoch-{epoch:04d}")


def refuse_later_position(place: Path | str, latest: Path, path: Path) -> None:
    """A UserError where the newest checkpoint in `place` is of a later position than the one to be written.

    A process that was frozen and replaced must not remove what its successor has trained.
    """
    if _order(latest) > _order(path):
        raise UserError(
            f"{place}: has {_describe(latest)}, but this process has trained {_describe(path)}: another process "
            "has continued this run; let that one train, or give another folder"
        )


def remove_outdated(folder: Path, path: Path) -> None:
    """Remove drafts that killed processes left, and checkpoints: all but `path` and the newest before it, if whole."""
    whole = [known for known in _newest_first(folder) if is_whole(known)]
    kept = [known for known in whole if known == path]
    kept += [known for known in whole if _order(known) < _order(path)][:1]
    for outdated in (*folder.glob(".draft-*"), *_newest_first(folder)):
        if outdated not in kept:
            shutil.rmtree(outdated, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint under `folder`, or None; a torn one is passed over with a warning."""
    for path in _newest_first(folder):
        if is_whole(path):
            return path
        logging.getLogger(__name__).warning("%s: this checkpoint is torn and is passed over", path)
    return None


def is_whole(path: Path) -> bool:
    """Whether every file of a checkpoint is there in its full length; tensors are not read for that."""
    try:
        json.loads((path / POSITION).read_text(encoding="utf-8"))
        for name in (WEIGHTS, OPTIMISER):
            with safe_open(path / name, "np"):  # refuses a file whose length is not that of its header
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), key=_order, reverse=True)


def _order(path: Path) -> tuple[int, int]:
    """The epoch of a checkpoint, and the steps of the next one."""
    epoch, _, steps = path.name.removeprefix("epoch-").partition("-step-")
    return int(epoch), int(steps or 0)


def _describe(path: Path) -> str:
    epoch, steps = _order(path)
    return f"epoch {epoch} and {steps} steps of the next" if steps else f"epoch {epoch}"


def mark_reported(folder: Path, epoch: int) -> None:
    """Record that an epoch was reported, in its checkpoint; nothing where another process has removed that."""
    path = checkpoint_path(folder, epoch)
    with contextlib.suppress(FileNotFoundError):
        (path / REPORTED).touch()
        sync_folder(path)


def is_reported(folder: Path) -> bool:
    """Whether the newest checkpoint's epoch was reported."""
    latest = latest_whole(folder)
    return latest is not None and (is_within_epoch(latest) or (latest / REPORTED).is_file())


def is_within_epoch(path: Path) -> bool:
    """Whether a checkpoint was written within an epoch, which begins when the one before it was reported."""
    return _order(path)[1] > 0


def latest_whole(folder: Path) -> Path | None:
    """As `latest_checkpoint`, without a warning."""
    return next(filter(is_whole, _newest_first(folder)), None)


def load_position(path: Path, recipe: Recipe) -> TrainingPosition:
    """The position of a checkpoint; one of another recipe, or with other keys, is a UserError."""
    content = json.loads((path / POSITION).read_text(encoding="utf-8"))
    try:
        part = EpochPart(**content["part"]) if content.get("part") else None
        position = TrainingPosition(**content | {"part": part})
    except TypeError as error:
        raise UserError(
            f"{path / POSITION}: is not of this version ({error}); use the version that wrote it, or another folder"
        ) from None
    if position.recipe_hash != recipe.hash:
        raise UserError(
            f"{path}: was trained with recipe {position.recipe_hash}, but this is {recipe.hash}; "
            "give another folder, or the recipe that is in this one"
        )
    return position
