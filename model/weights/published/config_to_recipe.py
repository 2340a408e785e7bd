"""A published checkpoint's config.json as a recipe."""

from __future__ import annotations

import math

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import validate
from model.weights.published.keys import REQUIRED, TRANSLATED, Config, needed, put, smoothing, value_in


def recipe_of(config: Config, own_blank: bool, name: str, source: str) -> Recipe:
    """The recipe that builds the config's model; a value that is not implemented is a UserError naming `source`.

    With `own_blank` the CTC head has a logit more than the vocabulary (as the training code has it).
    """
    _check_required(config, source)
    content: Config = {"name": name, "data": {"corpus": "."}}
    for key, targets in TRANSLATED.items():
        value = needed(config, key, source)
        for target in targets:
            known = put(content, target, value)
            if known != value:
                raise UserError(f"{source}: {key} is {value!r}, but must be {known!r}, as in the encoder")
    encoder, decoder = config["encoder"], config["decoder"]
    content["encoder"] |= _front(encoder, source) | {"padding": "published"}
    inner = decoder.get("n_inner") or 4 * decoder["n_embd"]
    content["decoder"] |= {"feed_forward": inner, "project_encoder": encoder["hidden_size"] != decoder["n_embd"]}
    content["loss"] |= {"auxiliary": _auxiliary(decoder, source), "label_smoothing": smoothing(config)}
    special = content["tokenizer"]["special"]
    special["blank"] = None if own_blank else needed(config, "encoder.pad_token_id", source)
    special["unk"] = min(set(range(len(special) + 1)) - set(special.values()))  # the layout names none
    return validate(Recipe, content, source)


def _check_required(config: Config, source: str) -> None:
    for section in ("encoder", "decoder"):
        if not isinstance(config.get(section), dict):
            raise UserError(f"{source}: has no section '{section}', but must be a speech encoder-decoder's config")
    for key, value in REQUIRED.items():
        given = value_in(config, key, value)
        same = math.isclose(given, value) if isinstance(given, float) and isinstance(value, float) else given == value
        if not same:
            raise UserError(f"{source}: {key} is {given!r}, but only {value!r} is implemented")


def _front(encoder: Config, source: str) -> Config:
    """Channels and padding of the two subsampling convolutions, equal in both."""
    values = {
        "channels": needed(encoder, "conv_dim", source),
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


def _auxiliary(decoder: Config, source: str) -> Config:
    """Placement in ascending order and its weights; the last of `head_weights` is the final classifier's."""
    locations, weights = decoder.get("head_locations") or [], decoder.get("head_weights") or [1.0]
    numbers = all(isinstance(one, int | float) for one in (*locations, *weights))
    if not numbers or len(weights) != len(locations) + 1 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise UserError(
            f"{source}: decoder.head_weights is {weights!r} for head_locations {locations!r}, but must have one value "
            "for each, then the final classifier's, and sum to 1"
        )
    pairs = sorted(zip(locations, weights, strict=False))
    return {"placement": [layer for layer, _ in pairs], "weights": [weight for _, weight in pairs]}
