"""Whether the weights of a study's trials will have room on the disk of its folder, before any trial starts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.recipe.training import TrainingConfig
from study.config.study_file import StudyFile
from study.execution.disk_space import Usage, find_reserve, format_bytes
from study.ledger.ledger import Ledger

OPTIMISER_COPIES = 2  # AdamW's moments, beside the weights, in a checkpoint
CHECKPOINTS = 2  # that a training keeps


def check_disk(
    ledger: Ledger, trials: int, confirmations: int, concurrency: int, print_line: Callable[[str], object]
) -> None:
    """`check_room` for what is left to do of a study, so many new trainings of finalists among its trials."""
    if ledger.study.object_store.checkpoints is not None:
        return
    weights = measure_weights(ledger.base_recipe)
    if weights is not None and trials:
        training = ledger.base_recipe.training
        needed = forecast_bytes(ledger.study, training, weights, trials - confirmations, confirmations, concurrency)
        check_room(ledger.study, weights, needed, ledger.folder, print_line)


def measure_weights(recipe: Recipe) -> int | None:
    """The bytes of a model's weights, without making one; None for a user's own network, whose code would run."""
    if recipe.custom_model.factory is not None:
        return None
    import torch  # takes seconds to import
    from torch.overrides import TorchFunctionMode

    from model.network.making import make_model

    class WithoutDraws(TorchFunctionMode):
        """Leaves initial values out: for tensors without storage torch would import its compiler to draw them."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function.__name__ in ("normal_", "uniform_"):
                return args[0] if args else kwargs["tensor"]
            return function(*args, **kwargs)

    with torch.device("meta"), WithoutDraws():
        state = make_model(recipe).state_dict()
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def forecast_bytes(
    study: StudyFile, training: TrainingConfig, weights: int, trials: int, confirmations: int, concurrency: int
) -> int:
    """What the weights and checkpoints of so many trials and new trainings of finalists will need, of which so many run
    at the same time. Features are not counted, since they are there when a study starts.

    `training` says which epochs' weights a run keeps until its end, when those that it chooses are written beside them.
    """
    kept = trials
    if study.disk.keep_best is not None:
        classes = max(1, len(study.classes))
        kept = min(trials, 2 * classes * study.disk.keep_best + len(study.baselines))  # two orders of the trials
    is_averaged = training.choose == "ema"  # then each checkpoint has the moving average too, and no epoch is kept
    candidates = training.average if training.choose.startswith("average") else int(not is_averaged)
    running = (1 + OPTIMISER_COPIES + is_averaged) * CHECKPOINTS + candidates
    return weights * (running * concurrency + kept + confirmations)


def check_room(
    study: StudyFile,
    weights: int,
    needed: int,
    folder: Path,
    print_line: Callable[[str], object],
    measure: Callable[[Path], Usage] = shutil.disk_usage,
) -> None:
    """Print a line where the disk is likely to be full before the end; a UserError where no trial can have room.

    `weights` are the bytes of a model's weights, `needed` what `forecast_bytes` gave.
    """
    usage = measure(folder)
    checkpoint = (1 + OPTIMISER_COPIES) * weights
    if usage.free < checkpoint:
        raise UserError(
            f"the disk of {folder} has {format_bytes(usage.free)} free, but a checkpoint of one trial takes "
            f"{format_bytes(checkpoint)}; free space, or set 'storage' to a folder on another disk"
        )
    usable = usage.free - find_reserve(study.disk, usage.total)
    if usable < needed:
        remedy = "free some" if study.disk.keep_best is not None else "free some, or keep fewer with disk.keep_best"
        print_line(
            f"the weights of this study's trials will take up to {format_bytes(needed)}, but the disk of {folder} has "
            f"{format_bytes(max(0, usable))} for them; {remedy}, or no trial will start once it is full"
        )
