"""Parts that were found to fit on a device, kept in a file for the runs of a study that need as much memory.

Only what had to be split is kept, since where all fits, finding that takes no longer than trusting it would.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import torch

from model.recipe.hashing import hash_json
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.strict import replace_file
from model.training.memory_probe import Parts

# What of a recipe decides how large its batches are and what a step holds.
_SECTIONS = ("encoder", "decoder", "data", "tokenizer", "augmentation")
_TRAINING = ("precision", "compile", "choose", "freeze", "data_share")


def make_key(recipe: Recipe, context: DistributedContext) -> str:
    """Equal for trainings whose steps take as much memory, on devices of the same kind and size."""
    recipe_content = recipe.model_dump(mode="json")
    content = {name: recipe_content[name] for name in _SECTIONS}
    content["training"] = {key: recipe_content["training"][key] for key in _TRAINING}
    content["classifiers"] = [len(recipe.loss.auxiliary.placement), len(recipe.loss.inter_ctc.layers)]
    content["device"] = [_describe_device(context.device), context.world_size, recipe.optimiser.accumulate]
    return hash_json(content)


def _describe_device(device: torch.device) -> list[object]:
    if device.type != "cuda":
        return ["cpu"]
    properties = torch.cuda.get_device_properties(device)
    return [properties.name, properties.total_memory]


def read_kept(file: Path, key: str, context: DistributedContext) -> Parts | None:
    """What was kept under the key, the same on all ranks; None where nothing that can be read was."""
    kept: Parts | None = None
    if context.rank == 0:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            kept = tuple(int(parts) for parts in json.loads(file.read_text())[key])
    return context.from_rank_0(kept)


def keep(file: Path, key: str, parts: Parts) -> None:
    """Add to the file; a run without it measures again, so that one which cannot be written is no error."""
    kept: dict[str, list[int]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = dict(json.loads(file.read_text()))
    with contextlib.suppress(OSError):
        replace_file(file, json.dumps(kept | {key: list(parts)}))
