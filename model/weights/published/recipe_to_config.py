"""A recipe as a published checkpoint's config.json, based on the config that the model came with, if any."""

from __future__ import annotations

import copy

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.weights.published.config_keys import (
    DROPOUTS,
    REQUIRED,
    TRAINING_ONLY,
    TRANSLATED,
    Config,
    get_label_smoothing,
    get_value,
    require_value,
    set_value,
)


def recipe_to_config(recipe: Recipe, origin: Config | None) -> Config:
    """The config of the recipe's model; keys that the recipe does not decide are those of `origin`, where there is one.

    A recipe that the published layout cannot hold is a UserError.
    """
    _check_writable(recipe)
    config = copy.deepcopy(origin) if origin else _new_config(recipe)
    dumped = recipe.model_dump(mode="json")
    for key, (target, *_) in TRANSLATED.items():
        value = require_value(dumped, target, "recipe")
        if key in ("encoder.hidden_dropout", "decoder.resid_pdrop") and get_value(config, key) != value:
            section = key.split(".")[0]
            config[section] |= dict.fromkeys(DROPOUTS[section], value)
        set_value(config, key, value)
    if "torch_dtype" in config:
        config["torch_dtype"] = "float32"  # all weights here are
    encoder, decoder, sizes = config["encoder"], config["decoder"], recipe.encoder
    encoder |= {"output_hidden_size": sizes.width, "conv_dim": [sizes.channels, sizes.channels]}
    extra_blank = recipe.tokenizer.special.blank is None
    if extra_blank or "conv_padding" in encoder or sizes.convolution_padding:  # the training code's default is to pad
        encoder["conv_padding"] = [sizes.convolution_padding] * 2
    if recipe.tokenizer.special.blank is not None:
        encoder["pad_token_id"] = recipe.tokenizer.special.blank
    if (decoder.get("n_inner") or 4 * decoder["n_embd"]) != recipe.decoder.feed_forward:
        decoder["n_inner"] = recipe.decoder.feed_forward
    _set_auxiliary(decoder, recipe)
    if get_label_smoothing(config) != recipe.loss.label_smoothing:
        (decoder if "lsm_factor" in decoder else config)["lsm_factor"] = recipe.loss.label_smoothing
    return config


def recipe_to_generation_config(recipe: Recipe) -> Config:
    """The content of generation_config.json, for a model that came without one."""
    special, decoding = recipe.tokenizer.special, recipe.decoding
    ids = {"bos_token_id": special.bos, "decoder_start_token_id": special.bos}
    ids |= {"eos_token_id": special.eos, "pad_token_id": special.pad}
    search = {"num_beams": decoding.beam, "length_penalty": decoding.length_penalty}
    return ids | search | {"ctc_weight": decoding.ctc_weight, "ctc_margin": 0}


def _check_writable(recipe: Recipe) -> None:
    encoder, decoder = recipe.encoder, recipe.decoder
    if encoder.feed_forward != encoder.cgmlp:
        raise UserError(
            f"encoder.feed_forward is {encoder.feed_forward} and encoder.cgmlp is {encoder.cgmlp}, but the published "
            "layout has one size for both; train a recipe where they are equal"
        )
    if recipe.loss.inter_ctc.layers:
        raise UserError(
            f"loss.inter_ctc.layers is {list(recipe.loss.inter_ctc.layers)}, but the published layout has no "
            "intermediate CTC losses; set it to [] (the weights stay what they are)"
        )
    if recipe.decoding.mixing != "none":
        raise UserError(
            "decoding.mixing holds weights, but the published layout decodes with the final classifier alone; "
            "set it to none"
        )
    for key in ("lm_weight", "ilm_weight"):
        if weight := getattr(recipe.decoding, key):
            raise UserError(
                f"decoding.{key} is {weight:g}, but the published layout decodes without language models; set it to 0, "
                "or export a model folder"
            )
    if decoder.project_encoder != (encoder.width != decoder.width):
        raise UserError(
            f"decoder.project_encoder is {str(decoder.project_encoder).lower()} with widths {encoder.width} and "
            f"{decoder.width}, but the published layout projects where widths differ and only there"
        )


def _new_config(recipe: Recipe) -> Config:
    """The required values alone; `recipe_to_config` fills in the others."""
    extra_blank = recipe.tokenizer.special.blank is None
    config: Config = {"architectures": ["JointCTCAttentionEncoderDecoder"], "torch_dtype": "float32"}
    for key, value in REQUIRED.items():
        if extra_blank or key.split(".")[-1] not in TRAINING_ONLY:
            set_value(config, key, copy.copy(value))
    special = recipe.tokenizer.special
    config["bos_token_id"] = special.bos
    config["encoder"] |= {"pad_token_id": special.pad, "bos_token_id": special.bos, "eos_token_id": special.eos}
    config["encoder"] |= {"apply_spec_augment": False, "mask_time_prob": 0.0, "feat_proj_dropout": 0.0}
    config["encoder"] |= {"layerdrop": 0.0, "ctc_zero_infinity": True}
    config["decoder"] |= {"n_embd": recipe.decoder.width, "is_decoder": True, "n_inner": recipe.decoder.feed_forward}
    return config | {"lsm_factor": recipe.loss.label_smoothing}


def _set_auxiliary(decoder: Config, recipe: Recipe) -> None:
    auxiliary = recipe.loss.auxiliary
    weight_of = dict(zip(auxiliary.placement, auxiliary.weights, strict=True))
    locations = list(decoder.get("head_locations") or [])
    if sorted(locations) != list(auxiliary.placement):
        locations = list(auxiliary.placement)
    decoder["head_locations"] = locations
    decoder["head_weights"] = [*(weight_of[layer] for layer in locations), round(auxiliary.final_weight, 12)]
