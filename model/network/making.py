"""The recogniser of a recipe: the project's own, or a user's network behind the same interface."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from model.errors import UserError
from model.network.custom import CustomRecogniser
from model.network.custom_source import import_factory
from model.network.protocol import CustomModel, HasLoss
from model.network.recogniser import Recogniser
from model.recipe.architecture import LossScheduleConfig
from model.recipe.recipe import Recipe

METHODS = ("encode", "ctc", "prepare_memory", "classify", "step")


def make_model(recipe: Recipe) -> Recogniser:
    """The recipe's model with initial weights, drawn from torch's global generator.

    Raises a UserError of one line where the recipe's `custom_model` makes none that can be used.
    """
    if recipe.custom_model.factory is None:
        return Recogniser(recipe)
    return CustomRecogniser(recipe, _make_network(recipe))


def _make_network(recipe: Recipe) -> CustomModel:
    config = recipe.custom_model
    factory, place, settings = import_factory(config), f"custom_model.factory {config.factory}", config.settings or {}
    try:
        network = factory(recipe, **settings)
    except UserError:
        raise
    except Exception as error:
        given = ", ".join(f"{name} {value}" for name, value in settings.items()) or "no settings"
        message = " ".join(str(error).split())
        raise UserError(
            f"{place}: called with {given}, it raised {type(error).__name__} ({message}); correct "
            "custom_model.settings or the function"
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{place}: returned {type(network).__name__}, but must return a torch.nn.Module")
    missing = [name for name in METHODS if not callable(getattr(network, name, None))]
    if missing:
        raise UserError(
            f"{place}: {type(network).__name__} has no method '{missing[0]}'; add what model/network/protocol.py lists"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{place}: {type(network).__name__} has no parameter to train; give it one")
    if isinstance(network, HasLoss) and recipe.loss.schedule != LossScheduleConfig():
        raise UserError(
            f"{place}: {type(network).__name__} computes its loss itself, so that loss.schedule would change nothing; "
            "leave out loss.schedule, or the method 'loss'"
        )
    assert isinstance(network, CustomModel)
    return network


def refuse_custom(recipe: Recipe, action: str, instead: str) -> None:
    """A UserError where a recipe has a network of a user's own, for which `action` is not possible."""
    if recipe.custom_model.factory is not None:
        raise UserError(f"{action} is for the project's own network, not for {recipe.custom_model.factory}; {instead}")


def refuse_untrusted(recipe: Recipe, folder: Path, trust_code: bool) -> None:
    """A UserError where the recipe in a model's folder names Python code, which loading the model would run, and nobody
    has agreed to that."""
    custom = recipe.custom_model
    if custom.factory is not None and not trust_code:
        place = f"of {custom.path}" if custom.path else "that is installed"
        raise UserError(
            f"{folder}: its network is the Python code {custom.factory} {place}, which runs when the model is loaded; "
            "read it, and where you trust it give --trust-code (in Python trust_code=True)"
        )


def count_parameters(recipe: Recipe) -> int:
    """Parameters of the recipe's model; no memory is taken for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make_model(recipe).parameters())
