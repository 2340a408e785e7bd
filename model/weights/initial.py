"""Weights to start from: a published checkpoint, or the last checkpoint of a run or a trial.

Tensors go over by name; auxiliary classifiers go over by the layer they are on, and one that the source lacks starts
fresh. Anything else that does not fit is refused by name: half a model is no start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model.errors import UserError
from model.network.recogniser import Recogniser
from model.recipe.files import read_recipe, value_at
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from model.weights import checkpoint
from model.weights.published.checkpoint import CONFIG, WEIGHTS, load_pretrained

_SAME = ("decoder.heads", *(f"tokenizer.special.{name}" for name in ("bos", "eos", "pad", "blank")))
_HEAD = "decoder.auxiliary.%d.weight"


@dataclass(frozen=True)
class Source:
    """Where weights come from: their recipe and a state dict of its model."""

    recipe: Recipe
    state: dict[str, Tensor]


def weights_file(folder: Path) -> Path:
    """The file that holds the weights of a published checkpoint or of a run's last checkpoint."""
    if (folder / CONFIG).is_file():
        return folder / WEIGHTS
    latest = checkpoint.latest_checkpoint(folder / "checkpoints")
    if latest is None:
        raise UserError(
            f"{folder}: holds neither a published checkpoint ({CONFIG} and {WEIGHTS}) nor a run with a checkpoint; "
            "give the folder of one"
        )
    return latest / WEIGHTS


def fingerprint(folder: Path) -> str:
    """Content hash of a folder's weights: 16 hex digits of SHA-256."""
    return file_fingerprint(weights_file(folder), "give the folder of a checkpoint")


def read_source(folder: Path) -> Source:
    """The weights in a folder and the recipe they were made with."""
    path = weights_file(folder)
    if path.parent == folder:
        model = load_pretrained(folder)
        return Source(model.recipe, model.state_dict())
    recipe = read_recipe(folder / "recipe.yaml")
    model = Recogniser(recipe)
    checkpoint.load_weights(path.parent, model)
    return Source(recipe, model.state_dict())


def start_from(model: Recogniser) -> None:
    """Put the weights of the recipe's `init_from` into the model; what does not fit is a UserError."""
    recipe = model.recipe
    if recipe.init_from is None:
        return
    folder = Path(recipe.init_from)
    found, wanted = fingerprint(folder), recipe.init_fingerprint
    if wanted is not None and found != wanted:
        raise UserError(
            f"init_from {folder}: its weights are {found}, but the recipe was made for {wanted}; give the original "
            "weights, or set init_fingerprint to null to start from these"
        )
    source, place = read_source(folder), f"init_from {folder}"
    for key in _SAME:  # what no shape shows, but what the weights mean
        ours, theirs = (json.dumps(value_at(one, key)) for one in (recipe, source.recipe))
        if ours != theirs:
            raise UserError(f"{place}: was trained with {key} {theirs}, but the recipe has {ours}; set it to {theirs}")
    model.load_state_dict(_fitting(model, source, place))


def _fitting(model: Recogniser, source: Source, place: str) -> dict[str, Tensor]:
    """A whole state dict for the model: the source's tensors, the model's own for classifiers that it alone has."""
    own = model.state_dict()
    classifiers = {layer: source.state[_HEAD % i] for i, layer in enumerate(source.recipe.loss.auxiliary.placement)}
    state = {name: value for name, value in source.state.items() if name not in _heads(len(classifiers))}
    for index, layer in enumerate(model.decoder.placement):
        state[_HEAD % index] = classifiers.get(layer, own[_HEAD % index])
    if unplaced := sorted(state.keys() - own.keys()):
        raise UserError(f"{place}: the recipe's model has no place for tensor '{unplaced[0]}'; give it the same layers")
    for name, value in own.items():
        if name not in state:
            raise UserError(
                f"{place}: holds no tensor '{name}', which the recipe's model needs; give it the same layers"
            )
        if state[name].shape != value.shape:
            raise UserError(
                f"{place}: tensor '{name}' has shape {tuple(state[name].shape)}, but the recipe's model needs "
                f"{tuple(value.shape)}; give the recipe the sizes of these weights"
            )
    return state


def _heads(count: int) -> set[str]:
    return {_HEAD % index for index in range(count)}
