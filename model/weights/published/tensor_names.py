"""The names of a published checkpoint's tensors, and the translation to ours and back.

The encoder has the names of Hugging Face's Wav2Vec2, the decoder those of GPT-2, whose matrices are stored (in, out).
The training code differs from the released code in two things: the blank of the CTC head is a separate projection,
here the last row of one matrix, and the subsampling convolutions are wrapped in one more module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from model.network.recogniser import Recogniser
from model.weights.published.config_keys import Config, head_order

BLANK = "encoder.blank_projection"
POSITION_RATES = "decoder.transformer.wpe.inv_freq"
MASK_STATE = "encoder.wav2vec2.masked_spec_embed"
UNUSED = (POSITION_RATES, MASK_STATE)  # in the files, but not used here

_FRONT = "encoder.wav2vec2."
_MODULES = {
    "encoder.subsampling.convolutions.0": f"{_FRONT}feature_extractor.conv.0.0",
    "encoder.subsampling.convolutions.2": f"{_FRONT}feature_extractor.conv.1.0",
    "encoder.subsampling.out": f"{_FRONT}feature_extractor.out",
    "encoder.subsampling.norm": f"{_FRONT}feature_projection.layer_norm",
    "encoder.subsampling.project": f"{_FRONT}feature_projection.projection",
    "encoder.norm": f"{_FRONT}encoder.layer_norm",
    "ctc.1": "encoder.lm_head",
    "decoder.project": "enc_to_dec_proj",
    "decoder.embedding": "decoder.transformer.wte.emb_layers.0",
    "decoder.norm": "decoder.transformer.ln_f",
    "decoder.final": "decoder.lm_head",
}
_ENCODER_LAYER = {
    "norm_first": "ff1.0",
    "first.0": "ff1.1.intermediate_dense",
    "first.3": "ff1.1.output_dense",
    "norm_global": "self_attn_layer_norm",
    "attention.query": "self_attn.linear_q",
    "attention.key": "self_attn.linear_k",
    "attention.value": "self_attn.linear_v",
    "attention.out": "self_attn.linear_out",
    "attention.position": "self_attn.linear_pos",
    "attention.content_bias": "self_attn.pos_bias_u",
    "attention.position_bias": "self_attn.pos_bias_v",
    "norm_local": "cgMLP_layer_norm",
    "local.expand.0": "cgMLP.channel_proj1.0",
    "local.norm": "cgMLP.csgu.norm",
    "local.convolution": "cgMLP.csgu.conv",
    "local.out": "cgMLP.channel_proj2",
    "merge_convolution": "depthwise_conv_fusion",
    "merge": "merge_proj",
    "norm_second": "ff2.0",
    "second.0": "ff2.1.intermediate_dense",
    "second.3": "ff2.1.output_dense",
    "norm_out": "final_layer_norm",
}
_DECODER_LAYER = {
    "norm_self": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm_cross": "ln_cross_attn",
    "cross_attention.query": "crossattention.q_attn",
    "cross_attention.key_value": "crossattention.c_attn",
    "cross_attention.out": "crossattention.c_proj",
    "norm_feed_forward": "ln_2",
    "feed_forward.0": "mlp.c_fc",
    "feed_forward.2": "mlp.c_proj",
}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")
_HEAD = re.compile(r"decoder\.auxiliary\.(\d+)")


def published_name(ours: str, order: list[int], extra_blank: bool) -> str:
    """The published name of one of our tensors; `order[i]` is the published index of our auxiliary classifier i."""
    module, leaf = re.fullmatch(r"(.+?)(\.weight|\.bias|)", ours).groups()  # type: ignore[union-attr]
    if layer := _LAYER.fullmatch(module):
        part, index, rest = layer.groups()
        if part == "encoder":
            return f"{_FRONT}encoder.layers.{index}.{_ENCODER_LAYER[rest]}{leaf}"
        return f"decoder.transformer.h.{index}.{_DECODER_LAYER[rest]}{leaf}"
    if head := _HEAD.fullmatch(module):
        return f"decoder.additional_lm_heads.{order[int(head[1])]}{leaf}"
    wrapped = ".conv" if extra_blank and module.startswith("encoder.subsampling.convolutions") else ""
    return f"{_MODULES[module]}{wrapped}{leaf}"


def is_training_code_layout(names: Iterable[str]) -> bool:
    """Whether tensors of these names have the training code's layout: wrapped convolutions, a separate blank."""
    return any(re.fullmatch(r".+\.feature_extractor\.conv\.\d\.0\.conv\.(weight|bias)", name) for name in names)


def to_published_tensors(model: Recogniser, config: Config) -> dict[str, Tensor]:
    """The model's weights under their published names; unused tensors are left out."""
    extra_blank, order = model.special.blank is None, head_order(config, model.decoder.placement)
    tensors: dict[str, Tensor] = {}
    for ours, value in model.state_dict().items():
        name = published_name(ours, order, extra_blank)
        if extra_blank and ours.startswith("ctc.1."):
            tensors[name], tensors[name.replace("encoder.lm_head", BLANK)] = value[:-1], value[-1:]
        else:
            tensors[name] = value.T if _is_transposed(name) else value
    return tensors


def from_published_tensors(tensors: Mapping[str, Tensor], model: Recogniser, config: Config) -> dict[str, Tensor]:
    """The inverse of `to_published_tensors`: a state dict for the model, in float32."""
    extra_blank, order = model.special.blank is None, head_order(config, model.decoder.placement)
    state: dict[str, Tensor] = {}
    for ours in model.state_dict():
        name = published_name(ours, order, extra_blank)
        value = tensors[name]
        if extra_blank and ours.startswith("ctc.1."):
            value = torch.cat((value, tensors[name.replace("encoder.lm_head", BLANK)]))
        state[ours] = (value.T if _is_transposed(name) else value).float()
    return state


def unused_tensors(config: Config) -> dict[str, Tensor]:
    """The tensors that the config's files hold beside the weights: sinusoid rates, and the state of masked frames."""
    tensors = {POSITION_RATES: position_rates(config["decoder"]["n_embd"])}
    if config["encoder"].get("mask_time_prob", 0.05) > 0 or config["encoder"].get("mask_feature_prob", 0.0) > 0:
        tensors[MASK_STATE] = torch.zeros(config["encoder"]["hidden_size"])
    return tensors


def position_rates(width: int) -> Tensor:
    """The rate of each of the decoder's position sinusoids, (width / 2,), which the released code stores."""
    return 1.0 / 10000.0 ** (torch.arange(0.0, width, 2.0) / width)


def _is_transposed(name: str) -> bool:
    return re.fullmatch(r"decoder\.transformer\.h\.\d+\.(attn|crossattention|mlp)\..+\.weight", name) is not None
