"""The keys of a published checkpoint's config.json, and what they mean here.

Every key is of one of three kinds: translated (a recipe value means the same), required (one value is implemented,
others are refused) or kept (it has no meaning here, and is written out as it was read). Kept are, among others, the
dropouts that have no counterpart here, SpecAugment, and `ctc_zero_infinity`, which counts as true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.errors import UserError
from model.recipe.architecture import MEL_BINS

Config = dict[str, Any]  # the content of config.json, nested

TRANSLATED = {  # section.key: dotted keys of the recipe
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
REQUIRED: dict[str, Any] = {  # a key that is absent counts as having the value
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
DROPOUTS = {  # all are set when the recipe's one dropout of the section changes
    "encoder": ("hidden_dropout", "attention_dropout", "activation_dropout", "final_dropout", "csgu_conv_dropout"),
    "decoder": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
}
TRAINING_ONLY = {"context_awareness_type", "is_causal", "num_fbanks"}  # keys that only the training code writes


def head_order(config: Config, placement: tuple[int, ...]) -> list[int]:
    """The index in the published list of classifiers of the classifier on each layer of `placement`."""
    locations = list(config["decoder"].get("head_locations") or [])
    return [locations.index(layer) for layer in placement]


def get_label_smoothing(config: Config) -> float:
    """Label smoothing: the training code has the key under decoder, the released code at the top."""
    return config["decoder"].get("lsm_factor", config.get("lsm_factor", 0.0))


def get_value(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value of a dotted key, or `default` where it is absent."""
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return default
        config = config[part]
    return config


def require_value(config: Config, key: str, source: str) -> Any:
    """The value of a dotted key; where it is absent or null, a UserError that names `source`."""
    value = get_value(config, key)
    if value is None:
        raise UserError(f"{source}: {key} is missing, so the model's shape or meaning is not known; add it")
    return value


def set_value(config: Config, key: str, value: Any) -> None:
    """Set a dotted key; sections that are missing are made."""
    *parents, last = key.split(".")
    for part in parents:
        config = config.setdefault(part, {})
    config[last] = value
