"""The two graphs: what goes in, what comes out, and writing them.

Shapes: B batch, T feature frames, S encoder frames, K hypotheses an utterance, N = B K, U tokens so far, L decoder
layers, H heads, E width of a head, V vocabulary.

torch's exporter over TorchScript is used (`dynamo=False`): the newer one needs onnxscript, a package more, and the
graphs of both are equal to torch's results up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network import attention, subsampling
from model.network.decoder import CrossAttentionMemory
from model.network.kernels.depthwise import DepthwiseConvolution
from model.network.kernels.patch_convolutions import STRIDE
from model.network.kv_cache import KVCache
from model.network.recogniser import Recogniser
from model.recipe.architecture import MEL_BINS

OPSET = 18
ENCODER, DECODER = "encoder.onnx", "decoder_step.onnx"
ENCODER_INPUTS = {"features": ("B", "T", None), "lengths": ("B",)}
ENCODER_OUTPUTS = {
    "ctc_logits": ("B", "S", None),
    "frames": ("B",),
    "cross_keys": (None, "B", None, "S", None),
    "cross_values": (None, "B", None, "S", None),
    "cross_bias": ("B", None, None, "S"),
}
DECODER_INPUTS = {
    "tokens": ("B", "K"),
    **{name: ENCODER_OUTPUTS[name] for name in ("cross_keys", "cross_values", "cross_bias")},
    "past_keys": (None, "N", None, "U", None),
    "past_values": (None, "N", None, "U", None),
}
DECODER_OUTPUTS = {
    "logits": ("B", "K", None),
    "keys": (None, "N", None, "U + 1", None),
    "values": (None, "N", None, "U + 1", None),
}
Axes = dict[str, tuple[str | None, ...]]


class EncoderGraph(nn.Module):
    """Features (B, T, 80) and lengths (B,) -> CTC logits (B, S, V + 1), encoder frames (B,), what the decoder reads.

    The latter is keys and values of cross-attention, (L, B, H, S, E) each, and a bias (B, 1, 1, S) that masks padding.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        encoded = self.model.encode(features, lengths)
        memory = self.model.prepare_memory(encoded)
        keys, values = zip(*memory.keys_values, strict=True)
        return encoded.ctc_logits, encoded.lengths, torch.stack(keys), torch.stack(values), memory.bias


class DecoderGraph(nn.Module):
    """One more token of each hypothesis: ids (B, K) -> logits (B, K, V) of the token after it, and the longer past.

    The past is keys and values of self-attention, (L, N, H, U, E) each; before the first token U is 0. Where the recipe
    mixes classifiers, the logits are mixed.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor, past_keys: Tensor, past_values: Tensor
    ) -> tuple[Tensor, ...]:
        memory = CrossAttentionMemory(list(zip(keys.unbind(0), values.unbind(0), strict=True)), bias)
        caches: list[KVCache] = [_Past(*past) for past in zip(past_keys.unbind(0), past_values.unbind(0), strict=True)]
        logits = self.model.decoder.step(tokens, memory, caches)
        return logits, torch.stack([cache.keys for cache in caches]), torch.stack([cache.values for cache in caches])


class _Past(KVCache):
    """A cache of one hypothesis in each row, (N, H, U, E), which a graph's user selects from.

    It is replaced and not written into, because a graph has no places that can be written into.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.length = keys.shape[2]  # while a graph is made this is a value of the graph, not a number

    def attend(self, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
        B, H, K, E = q.shape
        rows = [tensor.transpose(1, 2).reshape(B * K, H, 1, E) for tensor in (q, key, value)]
        self.keys, self.values = torch.cat((self.keys, rows[1]), dim=2), torch.cat((self.values, rows[2]), dim=2)
        attended = F.scaled_dot_product_attention(rows[0], self.keys, self.values)
        return attended.reshape(B, K, H, E).transpose(1, 2)


def export_graphs(model: Recogniser, out: Path) -> None:
    """Write both graphs of a model in eval mode on the CPU into a folder that exists."""
    encoder, decoder = EncoderGraph(model).eval(), DecoderGraph(model).eval()
    _export(encoder, make_encoder_inputs([48, 31]), out / ENCODER, ENCODER_INPUTS, ENCODER_OUTPUTS)
    _export(decoder, make_decoder_inputs(model, 2, 3, 11, 4), out / DECODER, DECODER_INPUTS, DECODER_OUTPUTS)


def _export(graph: nn.Module, inputs: tuple[Tensor, ...], path: Path, given: Axes, returned: Axes) -> None:
    axes = {
        name: {place: axis for place, axis in enumerate(shape) if axis is not None}
        for name, shape in (given | returned).items()
    }
    with _plain_operations(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this exporter is the older one, and that shapes become constants
        torch.onnx.export(
            graph,
            inputs,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(given),
            output_names=list(returned),
            dynamic_axes=axes,
        )


def make_encoder_inputs(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Features of noise for utterances of these lengths in frames."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(lengths), max(lengths), MEL_BINS, generator=generator), torch.tensor(lengths)


def make_decoder_inputs(model: Recogniser, B: int, K: int, S: int, U: int) -> tuple[Tensor, ...]:
    """Inputs of a decoder step with noise as memory and past."""
    generator = torch.Generator().manual_seed(0)
    config = model.recipe.decoder
    L, H, E = config.layers, config.heads, config.width // config.heads
    tokens = torch.randint(0, model.recipe.tokenizer.vocabulary, (B, K), generator=generator)
    cross = [torch.randn(L, B, H, S, E, generator=generator) for _ in range(2)]
    past = [torch.randn(L, B * K, H, U, E, generator=generator) for _ in range(2)]
    return tokens, *cross, torch.zeros(B, 1, 1, S), *past


@contextmanager
def _plain_operations() -> Iterator[None]:
    """The network without its kernels for training on CPUs, which no graph can hold: the same sums by plain operations.

    Only while a graph is made; nothing is trained meanwhile.
    """

    def convolve(self: Any, x: Tensor) -> Tensor:
        return nn.Conv1d.forward(self, x.transpose(1, 2)).transpose(1, 2)

    replaced: list[tuple[Any, str, Callable[..., Tensor]]] = [
        (DepthwiseConvolution, "forward", convolve),
        (subsampling, "convolve_patches", _convolve_patches),
        (attention, "_relative_shift", _shift),
    ]
    before = [getattr(owner, name) for owner, name, _ in replaced]
    try:
        for owner, name, operation in replaced:
            setattr(owner, name, operation)
        yield
    finally:
        for (owner, name, _), kept in zip(replaced, before, strict=True):
            setattr(owner, name, kept)


def _convolve_patches(features: Tensor, weight: Tensor, bias: Tensor, weight_2: Tensor, bias_2: Tensor) -> Tensor:
    """The two convolutions in front of the encoder: (B, T, F) -> (B, S, R, C)."""
    hidden = F.gelu(F.conv2d(features[:, None], weight, bias, STRIDE))
    return F.conv2d(hidden, weight_2, bias_2, STRIDE).permute(0, 2, 3, 1)


def _shift(scores: Tensor) -> Tensor:
    """Scores by distance (B, H, T, 2T-1) -> scores by key (B, H, T, T), by reshaping instead of strides."""
    B, H, T, W = scores.shape
    padded = torch.cat((scores.new_zeros(B, H, T, 1), scores), dim=-1).reshape(B, H, W + 1, T)
    return padded[:, :, 1:].reshape(B, H, T, W)[..., :T]
