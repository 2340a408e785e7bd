"""Published checkpoints: config.json + model.safetensors, as Hugging Face saves them. Nothing is ever unpickled.

All tensors are checked before any is used: a missing, unknown or misshapen tensor is refused by name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.errors import UserError
from model.network.recogniser import PublishedOrigin, Recogniser
from model.strict import make_folders, sync_file, write_atomically
from model.weights.published.config_keys import Config
from model.weights.published.config_to_recipe import config_to_recipe
from model.weights.published.recipe_to_config import recipe_to_config, recipe_to_generation_config
from model.weights.published.tensor_names import (
    POSITION_RATES,
    UNUSED,
    from_published_tensors,
    is_training_code_layout,
    position_rates,
    to_published_tensors,
    unused_tensors,
)

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def load_pretrained(folder: str | Path) -> Recogniser:
    """The model in a folder of the published layout, in eval mode; a folder that is not one is a UserError."""
    folder = Path(folder)
    config = _read_json(folder / CONFIG)
    tensors = read_tensors(folder)
    recipe = config_to_recipe(config, is_training_code_layout(tensors), _recipe_name(folder), str(folder / CONFIG))
    model = Recogniser(recipe)
    _check_tensors(tensors, to_published_tensors(model, config) | unused_tensors(config), folder / WEIGHTS)
    if not torch.allclose(tensors[POSITION_RATES].float(), position_rates(recipe.decoder.width), rtol=1e-2):
        raise UserError(
            f"{folder / WEIGHTS}: tensor '{POSITION_RATES}' holds other rates than the sinusoids that are implemented"
        )
    model.load_state_dict(from_published_tensors(tensors, model, config))
    generation = _read_json(folder / GENERATION) if (folder / GENERATION).exists() else None
    model.origin = PublishedOrigin(config, generation, {name: tensors[name] for name in UNUSED if name in tensors})
    return model.eval()


def save_pretrained(model: Recogniser, folder: str | Path) -> None:
    """Write the model in the published layout, with what `load_pretrained` read beyond the weights.

    A recipe that the layout cannot hold is a UserError. In the published implementation padding always reaches the
    other utterances of a batch, so there a model computes what it computes here with `encoder.padding: published`.
    """
    folder, origin = Path(folder), model.origin
    config = recipe_to_config(model.recipe, origin.config if origin else None)
    tensors = to_published_tensors(model, config) | (origin.unused if origin else unused_tensors(config))
    make_folders(folder)
    draft = folder / f".{WEIGHTS}.{os.getpid()}"
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, draft, {"format": "pt"})
        sync_file(draft)
        os.replace(draft, folder / WEIGHTS)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _write_json(folder / CONFIG, config)
    generation = origin.generation if origin else None
    _write_json(folder / GENERATION, generation or recipe_to_generation_config(model.recipe))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's model.safetensors; pickled, missing or broken weights are a UserError."""
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
        if pickled:
            raise UserError(
                f"{folder / pickled[0]}: holds pickled weights, which can run any code and are never read; "
                f"save them as {WEIGHTS}"
            )
        raise UserError(f"{path}: is missing; give a folder with {CONFIG} and {WEIGHTS}")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: is no whole safetensors file ({' '.join(str(error).split())}); copy it again"
        ) from None


def _check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    if missing := sorted(wanted.keys() - found.keys()):
        raise UserError(
            f"{path}: tensor '{missing[0]}' is missing{_and_more(missing)}; the file must hold every tensor that "
            f"{CONFIG} implies"
        )
    if extra := sorted(found.keys() - wanted.keys() - set(UNUSED)):
        raise UserError(
            f"{path}: tensor '{extra[0]}' is unknown{_and_more(extra)}; the file must hold no tensor beyond those that "
            f"{CONFIG} implies"
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise UserError(
                f"{path}: tensor '{name}' has shape {tuple(found[name].shape)}, but {CONFIG} implies "
                f"{tuple(tensor.shape)}"
            )
        if not found[name].is_floating_point():
            raise UserError(
                f"{path}: tensor '{name}' has type {found[name].dtype}, but must hold floating-point numbers"
            )


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _recipe_name(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name) or "published"


def _read_json(path: Path) -> Config:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a folder with {CONFIG} and {WEIGHTS}"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__}, but must be an object of keys and values")
    return content


def _write_json(path: Path, content: Config) -> None:
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
