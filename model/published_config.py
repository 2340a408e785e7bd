"""A published checkpoint's config.json as a recipe, and a recipe as such a config.

Every key is of one of three kinds: translated (a recipe value says the same), required (one value is implemented,
others are refused) or kept (what has no meaning here goes out again as it came in). Kept are among others the
dropouts but the one that each side has here, SpecAugment, and `ctc_zero_infinity`, which counts as true.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from model.errors import UserError
from model.recipe import MEL_BINS, Recipe
from model.strict import validate

Config = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """What a published checkpoint said beyond recipe and weights: its config, and the tensors that nothing reads."""

    config: Config
    generation: Config | None = None
    unused: dict[str, Tensor] = field(default_factory=dict)


_TRANSLATED = {  # section.key: dotted keys of the recipe
    "ctc_weight": ("loss.ctc_weight",),
    "encoder.vocab_size": ("tokenizer.vocabulary",),
    "encoder.hidden_size": ("encoder.width",),
    "encoder.num_hidden_layers": ("encoder.layers",),
    "encoder.num_attention_heads": ("encoder.heads",),
    "encoder.intermediate_size": ("encoder.feed_forward", "encoder.cgmlp"),
    "encoder.csgu_kernel_size": ("encoder.cgmlp_kernel",),
    "encoder.merge_conv_kernel": ("encoder.merge_kernel",),
    "encoder.hidden_dropout": ("encoder.dropout",),
    "encoder.ctc_loss_reduction": ("loss.ctc_reduction",),
    "decoder.vocab_size": ("tokenizer.vocabulary",),
    "decoder.n_embd": ("decoder.width",),
    "decoder.n_layer": ("decoder.layers",),
    "decoder.n_head": ("decoder.heads",),
    "decoder.resid_pdrop": ("decoder.dropout",),
    "decoder_start_token_id": ("tokenizer.special.bos",),
    "eos_token_id": ("tokenizer.special.eos",),
    "pad_token_id": ("tokenizer.special.pad",),
}
_REQUIRED: dict[str, Any] = {  # an absent key is taken to have the value
    "model_type": "joint_aed_ctc_speech-encoder-decoder",
    "is_encoder_decoder": True,
    "tie_word_embeddings": False,
    "shared_lm_head": False,
    "decoder_pos_emb_fixed": True,
    "encoder.model_type": "wav2vec2-ebranchformer",
    "encoder.position_embeddings_type": "relative",
    "encoder.fe_position_embeddings": False,
    "encoder.use_macaron_ff": True,
    "encoder.csgu_use_linear_after_conv": False,
    "encoder.csgu_activation": "identity",
    "encoder.hidden_act": "gelu",
    "encoder.feat_extract_activation": "gelu",
    "encoder.layer_norm_eps": 1e-5,
    "encoder.conv_kernel": [3, 3],
    "encoder.conv_stride": [2, 2],
    "encoder.num_feat_extract_layers": 2,
    "encoder.num_mel_bins": MEL_BINS,
    "encoder.num_fbanks": MEL_BINS,
    "encoder.second_dim_input_size": MEL_BINS,
    "encoder.use_fbanks": True,
    "encoder.expect_2d_input": True,
    "encoder.add_adapter": False,
    "encoder.is_causal": False,
    "encoder.context_awareness_type": None,
    "decoder.model_type": "gpt2-multi-head",
    "decoder.add_cross_attention": True,
    "decoder.activation_function": "gelu_new",
    "decoder.layer_norm_epsilon": 1e-5,
    "decoder.pos_emb_fixed": True,
    "decoder.scale_attn_weights": True,
    "decoder.scale_attn_by_inverse_layer_idx": False,
    "decoder.average_logits": False,
    "decoder.tie_word_embeddings": False,
    "decoder.tie_additional_weights": False,
    "decoder.cross_attention_hidden_size": None,
}
_DROPOUTS = {
    "encoder": ("hidden_dropout", "attention_dropout", "activation_dropout", "final_dropout", "csgu_conv_dropout"),
    "decoder": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
}
_TRAINING_ONLY = {"context_awareness_type", "is_causal", "num_fbanks"}  # keys of the training code alone


def recipe_of(config: Config, own_blank: bool, name: str, source: str) -> Recipe:
    """The recipe that builds the config's model; a value that is not implemented is a UserError naming `source`.

    With `own_blank` the CTC head has a logit more than the vocabulary (as the training code has it).
    """
    _check_required(config, source)
    content: Config = {"name": name, "data": {"corpus": "."}}
    for key, targets in _TRANSLATED.items():
        value = _at(config, key, source)
        for target in targets:
            known = _put(content, target, value)
            if known != value:
                raise UserError(f"{source}: {key} is {value!r}, but must be {known!r} as the other side has it")
    encoder, decoder = config["encoder"], config["decoder"]
    content["encoder"] |= _front(encoder, source) | {"padding": "published"}
    inner = decoder.get("n_inner") or 4 * decoder["n_embd"]
    content["decoder"] |= {"feed_forward": inner, "project_encoder": encoder["hidden_size"] != decoder["n_embd"]}
    content["loss"] |= {"auxiliary": _auxiliary(decoder, source), "label_smoothing": _smoothing(config)}
    special = content["tokenizer"]["special"]
    special["blank"] = None if own_blank else _at(config, "encoder.pad_token_id", source)
    special["unk"] = min(set(range(len(special) + 1)) - set(special.values()))  # the layout names none
    return validate(Recipe, content, source)


def config_of(recipe: Recipe, origin: Config | None) -> Config:
    """The config of the recipe's model, on top of the one it came with; a recipe that has none is a UserError."""
    _check_writable(recipe)
    config = copy.deepcopy(origin) if origin else _fresh(recipe)
    dumped = recipe.model_dump(mode="json")
    for key, (target, *_) in _TRANSLATED.items():
        value = _at(dumped, target, "recipe")
        if key in ("encoder.hidden_dropout", "decoder.resid_pdrop") and _get(config, key) != value:
            section = key.split(".")[0]
            config[section] |= dict.fromkeys(_DROPOUTS[section], value)
        _put(config, key, value, replace=True)
    encoder, decoder, sizes = config["encoder"], config["decoder"], recipe.encoder
    encoder |= {"output_hidden_size": sizes.width, "conv_dim": [sizes.channels, sizes.channels]}
    if sizes.convolution_padding or "conv_padding" in encoder:
        encoder["conv_padding"] = [sizes.convolution_padding] * 2
    if recipe.tokenizer.special.blank is not None:
        encoder["pad_token_id"] = recipe.tokenizer.special.blank
    if (decoder.get("n_inner") or 4 * decoder["n_embd"]) != recipe.decoder.feed_forward:
        decoder["n_inner"] = recipe.decoder.feed_forward
    _put_auxiliary(decoder, recipe)
    if _smoothing(config) != recipe.loss.label_smoothing:
        (decoder if "lsm_factor" in decoder else config)["lsm_factor"] = recipe.loss.label_smoothing
    return config


def generation_of(recipe: Recipe) -> Config:
    """A generation_config.json for a model that came without one."""
    special, decoding = recipe.tokenizer.special, recipe.decoding
    ids = {"bos_token_id": special.bos, "decoder_start_token_id": special.bos}
    ids |= {"eos_token_id": special.eos, "pad_token_id": special.pad}
    return ids | {"ctc_weight": decoding.ctc_weight, "ctc_margin": 0, "num_beams": decoding.beam}


def head_order(config: Config, placement: tuple[int, ...]) -> list[int]:
    """Where the published list holds the classifier of each layer of `placement`."""
    locations = list(config["decoder"].get("head_locations") or [])
    return [locations.index(layer) for layer in placement]


def _check_required(config: Config, source: str) -> None:
    for section in ("encoder", "decoder"):
        if not isinstance(config.get(section), dict):
            raise UserError(f"{source}: has no section '{section}', but must be a speech encoder-decoder's config")
    for key, value in _REQUIRED.items():
        given = _get(config, key, value)
        same = math.isclose(given, value) if isinstance(given, float) and isinstance(value, float) else given == value
        if not same:
            raise UserError(f"{source}: {key} is {given!r}, but only {value!r} is implemented")


def _check_writable(recipe: Recipe) -> None:
    encoder, decoder = recipe.encoder, recipe.decoder
    if encoder.feed_forward != encoder.cgmlp:
        raise UserError(
            f"encoder.feed_forward is {encoder.feed_forward} and encoder.cgmlp is {encoder.cgmlp}, but the published "
            "layout has one size for both; train a recipe where they are equal"
        )
    if decoder.project_encoder != (encoder.width != decoder.width):
        raise UserError(
            f"decoder.project_encoder is {str(decoder.project_encoder).lower()} with widths {encoder.width} and "
            f"{decoder.width}, but the published layout projects where widths differ and only there"
        )


def _fresh(recipe: Recipe) -> Config:
    """A config with nothing but required values, which `config_of` then fills."""
    own_blank = recipe.tokenizer.special.blank is None
    config: Config = {"architectures": ["JointCTCAttentionEncoderDecoder"], "torch_dtype": "float32"}
    for key, value in _REQUIRED.items():
        if own_blank or key.split(".")[-1] not in _TRAINING_ONLY:
            _put(config, key, copy.copy(value))
    special = recipe.tokenizer.special
    config["bos_token_id"] = special.bos
    config["encoder"] |= {"pad_token_id": special.pad, "bos_token_id": special.bos, "eos_token_id": special.eos}
    config["encoder"] |= {"apply_spec_augment": False, "mask_time_prob": 0.0, "feat_proj_dropout": 0.0}
    config["encoder"] |= {"layerdrop": 0.0, "ctc_zero_infinity": True}
    config["decoder"] |= {"n_embd": recipe.decoder.width, "is_decoder": True, "n_inner": recipe.decoder.feed_forward}
    return config | {"lsm_factor": recipe.loss.label_smoothing}


def _front(encoder: Config, source: str) -> Config:
    """Channels and padding of the two subsampling convolutions, equal in both."""
    values = {"channels": _at(encoder, "conv_dim", source), "convolution_padding": encoder.get("conv_padding", [0, 0])}
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
    if len(weights) != len(locations) + 1 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise UserError(
            f"{source}: decoder.head_weights is {weights!r} for head_locations {locations!r}, but must have one value "
            "for each, then the final classifier's, and sum to 1"
        )
    pairs = sorted(zip(locations, weights, strict=False))
    return {"placement": [layer for layer, _ in pairs], "weights": [weight for _, weight in pairs]}


def _put_auxiliary(decoder: Config, recipe: Recipe) -> None:
    auxiliary = recipe.loss.auxiliary
    weight_of = dict(zip(auxiliary.placement, auxiliary.weights, strict=True))
    locations = list(decoder.get("head_locations") or [])
    if sorted(locations) != list(auxiliary.placement):
        locations = list(auxiliary.placement)
    decoder["head_locations"] = locations
    decoder["head_weights"] = [*(weight_of[layer] for layer in locations), round(auxiliary.final_weight, 12)]


def _smoothing(config: Config) -> float:
    """Label smoothing: the training code has it under decoder, the released code at the top."""
    return config["decoder"].get("lsm_factor", config.get("lsm_factor", 0.0))


def _get(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return default
        config = config[part]
    return config


def _at(config: Config, key: str, source: str) -> Any:
    value = _get(config, key)
    if value is None:
        raise UserError(f"{source}: {key} is missing, so the model's shape or meaning is not known; add it")
    return value


def _put(config: Config, key: str, value: Any, replace: bool = False) -> Any:
    """Set a dotted key where it has no value yet, or `replace` it; what is there afterwards."""
    *parents, last = key.split(".")
    for part in parents:
        config = config.setdefault(part, {})
    if replace:
        config[last] = value
    return config.setdefault(last, value)
