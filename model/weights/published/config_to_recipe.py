"""A published checkpoint's config.json as a recipe."""

from __future__ import annotations

import math

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import validate
from model.weights.published.config_keys import (
    REQUIRED,
    TRANSLATED,
    Config,
    get_label_smoothing,
    get_value,
    require_value,
    set_value,
)


def config_to_recipe(config: Config, extra_blank: bool, name: str, source: str) -> Recipe:
    """The recipe of the config's model; a value that is not implemented is a UserError that names `source`.

    With `extra_blank` the CTC head has a class beyond the vocabulary for the blank, as in the training code.
    """
    _check_required(config, source)
    content: Config = {"name": name, "data": {"corpus": "."}}
    for key, targets in TRANSLATED.items():
        value = require_value(config, key, source)
        for target in targets:
            known = get_value(content, target, value)
            set_value(content, target, known)
            if known != value:
                raise UserError(f"{source}: {key} is {value!r}, but must be {known!r}, as in the encoder")
    encoder, decoder = config["encoder"], config["decoder"]
    content["encoder"] |= _subsampling_values(encoder, source) | {"padding": "published"}
    inner = decoder.get("n_inner") or 4 * decoder["n_embd"]
    content["decoder"] |= {"feed_forward": inner, "project_encoder": encoder["hidden_size"] != decoder["n_embd"]}
    content["loss"] |= {"auxiliary": _auxiliary_values(decoder, source), "label_smoothing": get_label_smoothing(config)}
    special = content["tokenizer"]["special"]
    special["blank"] = None if extra_blank else require_value(config, "encoder.pad_token_id", source)
    special["unk"] = min(set(range(len(special) + 1)) - set(special.values()))  # the layout has none; take a free id
    return validate(Recipe, content, source)


def _check_required(config: Config, source: str) -> None:
    for section in ("encoder", "decoder"):
        if not isinstance(config.get(section), dict):
            raise UserError(f"{source}: has no section '{section}', but must be a speech encoder-decoder's config")
    for key, value in REQUIRED.items():
        given = get_value(config, key, value)
        same = math.isclose(given, value) if isinstance(given, float) and isinstance(value, float) else given == value
        if not same:
            raise UserError(f"{source}: {key} is {given!r}, but only {value!r} is implemented")


def _subsampling_values(encoder: Config, source: str) -> Config:
    """Channels and padding of the two subsampling convolutions, which must be equal in both."""
    values = {
        "channels": require_value(encoder, "conv_dim", source),
        "convolution_padding": encoder.get("conv_padding", [0, 0]),
    }
    for name, pair in values.items():
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] != pair[1]:
            raise UserError(f"{source}: encoder's {name} are {pair!r}, but two equal numbers are implemented")
    if encoder.get("output_hidden_size", encoder["hidden_size"]) != encoder["hidden_size"]:
        raise UserError(
            f"{source}: encoder.output_hidden_size is {encoder['output_hidden_size']!r}, "
            f"but must be hidden_size, {encoder['hidden_size']!r}"
        )
    return {name: pair[0] for name, pair in values.items()}


def _auxiliary_values(decoder: Config, source: str) -> Config:
    """Placement in ascending order and its weights; the last of `head_weights` is the final classifier's."""
    locations, weights = decoder.get("head_locations") or [], decoder.get("head_weights") or [1.0]
    numbers = all(isinstance(value, int | float) for value in (*locations, *weights))
    if not numbers or len(weights) != len(locations) + 1 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise UserError(
            f"{source}: decoder.head_weights is {weights!r} for head_locations {locations!r}, but must have one value "
            "for each, then the final classifier's, and sum to 1"
        )
    pairs = sorted(zip(locations, weights, strict=False))
    return {"placement": [layer for layer, _ in pairs], "weights": [weight for _, weight in pairs]}
