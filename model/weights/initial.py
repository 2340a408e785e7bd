"""Weights to start from: a published checkpoint, or those of a run, of a trial or of a model folder.

Tensors are matched by name; auxiliary classifiers are matched by the layer they are on, and a classifier that the
source lacks starts fresh. Anything else that does not fit is refused by name.
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
from model.weights.chosen import find_run_weights
from model.weights.found_decoding import with_found_decoding
from model.weights.model_folder import is_model_folder, load_model_folder
from model.weights.published.checkpoint import CONFIG, WEIGHTS, load_pretrained

# Recipe keys that change what the weights mean without changing a shape.
_MUST_AGREE = ("decoder.heads", *(f"tokenizer.special.{name}" for name in ("bos", "eos", "pad", "blank")))
_AUXILIARY = "decoder.auxiliary.%d.weight"


@dataclass(frozen=True)
class WeightSource:
    """Weights and the recipe that they were trained with; `state` is a state dict of that recipe's model."""

    recipe: Recipe
    state: dict[str, Tensor]


def find_weights_file(folder: Path) -> Path:
    """The weights file of a published checkpoint, of a model folder or of a run; a UserError where there is none."""
    if (folder / CONFIG).is_file() or is_model_folder(folder):
        return folder / WEIGHTS
    place = find_run_weights(folder)
    if place is None:
        raise UserError(
            f"{folder}: holds neither a published checkpoint ({CONFIG} and {WEIGHTS}) nor a run with a checkpoint; "
            "give the folder of one"
        )
    return place / checkpoint.WEIGHTS


def fingerprint_weights(folder: Path) -> str:
    """Content hash of a folder's weights: 16 hex digits of SHA-256."""
    return file_fingerprint(find_weights_file(folder), "give the folder of a checkpoint")


def read_weights(folder: Path) -> WeightSource:
    """The weights in a folder and the recipe that they were trained with."""
    if is_model_folder(folder):
        found = load_model_folder(folder)
        return WeightSource(found.recipe, found.model.state_dict())
    path = find_weights_file(folder)
    if path.parent == folder:
        model = load_pretrained(folder)
        return WeightSource(model.recipe, model.state_dict())
    recipe = with_found_decoding(read_recipe(folder / "recipe.yaml"), folder)
    model = Recogniser(recipe)
    checkpoint.load_weights(path.parent, model)
    return WeightSource(recipe, model.state_dict())


def load_initial_weights(model: Recogniser) -> None:
    """Load the weights of the recipe's `init_from` into the model; weights that do not fit are a UserError."""
    recipe = model.recipe
    if recipe.init_from is None:
        return
    folder = Path(recipe.init_from)
    found, wanted = fingerprint_weights(folder), recipe.init_fingerprint
    if wanted is not None and found != wanted:
        raise UserError(
            f"init_from {folder}: its weights are {found}, but the recipe was made for {wanted}; give the original "
            "weights, or set init_fingerprint to null to start from these"
        )
    source, place = read_weights(folder), f"init_from {folder}"
    for key in _MUST_AGREE:
        ours, theirs = (json.dumps(value_at(some_recipe, key)) for some_recipe in (recipe, source.recipe))
        if ours != theirs:
            raise UserError(f"{place}: was trained with {key} {theirs}, but the recipe has {ours}; set it to {theirs}")
    model.load_state_dict(_match(model, source, place))


def _match(model: Recogniser, source: WeightSource, place: str) -> dict[str, Tensor]:
    """A whole state dict for the model: the source's tensors, and the model's own for classifiers that it alone has."""
    own = model.state_dict()
    layers = source.recipe.loss.auxiliary.placement
    classifiers = {layer: source.state[_AUXILIARY % index] for index, layer in enumerate(layers)}
    auxiliary = {_AUXILIARY % index for index in range(len(layers))}
    state = {name: value for name, value in source.state.items() if name not in auxiliary}
    for index, layer in enumerate(model.decoder.placement):
        state[_AUXILIARY % index] = classifiers.get(layer, own[_AUXILIARY % index])
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
