"""Parts that were found to fit on a device, kept in a file for the runs of a study that need as much memory.

Only what had to be split is kept, since where all fits, finding that takes no longer than trusting it would. Beside it,
in a run's own folder, each rank of several writes down what its steps turned out to need: `needed-parts-{rank}.json`.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import torch

from model.recipe.hashing import hash_json
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.strict import replace_file, write_atomically
from model.training.memory_probe import Parts

# What of a recipe decides how large its batches are and what a step holds.
_SECTIONS = ("encoder", "decoder", "data", "tokenizer", "augmentation")
NEEDED = "needed-parts-{rank}.json"
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
        kept = _read(file, key)
    return context.from_rank_0(kept)


def _read(file: Path, key: str) -> Parts | None:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return tuple(int(parts) for parts in json.loads(file.read_text())[key])
    return None


def keep(file: Path, key: str, parts: Parts) -> None:
    """Add to the file; a run without it measures again, so that one which cannot be written is no error."""
    kept: dict[str, list[int]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        kept = dict(json.loads(file.read_text()))
    with contextlib.suppress(OSError):
        replace_file(file, json.dumps(kept | {key: list(parts)}))


def write_needed(folder: Path, rank: int, key: str, parts: Parts) -> None:
    """Write down that this rank's shares need at least so many parts. A UserError where that cannot be written."""
    # A file of each rank's own: several may fail in the same step.
    write_atomically(folder / NEEDED.format(rank=rank), json.dumps({key: list(parts)}))


def read_needed_by(folder: Path, rank: int, key: str, buckets: int) -> Parts | None:
    """What a rank has written down for trainings of this key; None where it has not."""
    parts = _read(folder / NEEDED.format(rank=rank), key)
    return parts if parts is not None and len(parts) == buckets else None


def read_needed(folder: Path, key: str, context: DistributedContext, buckets: int) -> Parts:
    """The parts that any rank has written down, at least 1 for each bucket; the same on all ranks."""
    own = [read_needed_by(folder, rank, key, buckets) for rank in range(context.world_size)]
    # What one rank wrote, a file system may not show to all others yet.
    seen = [parts for of_rank in context.gather_over_ranks(own) for parts in of_rank if parts is not None]
    return tuple(max(counts) for counts in zip((1,) * buckets, *seen, strict=True))
