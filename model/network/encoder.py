"""E-Branchformer encoder (arXiv 2210.00077) behind two stride-2 convolutions.

With `padding: invariant` no padded frame reaches a valid one: padded keys are masked in attention, and every
convolution over time reads zeros beyond an utterance's end. With `padding: published` only keys are masked.
Shapes: B batch, T feature frames, F mel bins, S encoder frames (T subsampled), D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.attention import RelativeAttention, relative_position_encoding
from model.network.kernels.depthwise import DepthwiseConvolution
from model.network.kernels.dropout import Dropout
from model.network.kernels.linear import Linear
from model.network.layer_drop import skip_layer
from model.network.subsampling import Subsampling, subsampled_length
from model.recipe.architecture import EncoderConfig


def valid_frame_mask(lengths: Tensor, states: Tensor) -> Tensor:
    """Lengths (B,) of states (B, S, D) -> (B, S) on the states' device, true where a frame is no padding."""
    valid = torch.arange(states.shape[1], device=lengths.device) < lengths[:, None]
    return valid.to(states.device, non_blocking=True)


def _valid_unless_all(lengths: Tensor, states: Tensor) -> Tensor | None:
    """`valid_frame_mask`, or None on a CPU where no frame is padding; a GPU would have to be waited for."""
    valid = valid_frame_mask(lengths, states)
    return None if states.device.type == "cpu" and bool(valid.all()) else valid


class FeedForward(nn.Sequential):
    """Linear, GELU, linear, each followed by dropout: (B, S, D) -> (B, S, D)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__(Linear(width, inner), nn.GELU(), Dropout(dropout), Linear(inner, width), Dropout(dropout))


class ConvolutionalGating(nn.Module):
    """cgMLP: one half of the channels is multiplied by a depthwise convolution of the other half."""

    def __init__(self, width: int, inner: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Sequential(Linear(width, inner), nn.GELU())
        self.norm = nn.LayerNorm(inner // 2)
        self.convolution = DepthwiseConvolution(inner // 2, kernel)
        self.dropout = Dropout(dropout)
        self.out = Linear(inner // 2, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, S, D), mask (B, S, 1) 0 on padding, None where nothing is masked -> (B, S, D)."""
        content, gate = self.expand(x).chunk(2, dim=-1)
        gate = self.norm(gate)
        return self.out(self.dropout(content * self.convolution(gate if mask is None else gate * mask)))


class EBranchformerLayer(nn.Module):
    """Half feed-forward, attention beside cgMLP, merged by a depthwise convolution, half feed-forward."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.invariant = config.padding == "invariant"
        self.norm_first, self.first = nn.LayerNorm(width), FeedForward(width, config.feed_forward, dropout)
        self.norm_global, self.attention = nn.LayerNorm(width), RelativeAttention(width, config.heads, dropout)
        self.norm_local = nn.LayerNorm(width)
        self.local = ConvolutionalGating(width, config.cgmlp, config.cgmlp_kernel, dropout)
        self.merge_convolution = DepthwiseConvolution(2 * width, config.merge_kernel)
        self.merge = Linear(2 * width, width)
        self.norm_second, self.second = nn.LayerNorm(width), FeedForward(width, config.feed_forward, dropout)
        self.norm_out = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, S, D), positions (2S-1, D), valid (B, S) false on padding, None without any -> (B, S, D)."""
        mask = valid[..., None].to(x.dtype) if self.invariant and valid is not None else None
        x = torch.add(x, self.first(self.norm_first(x)), alpha=0.5)
        attended = self.dropout(self.attention(self.norm_global(x), positions, valid))
        both = torch.cat((attended, self.local(self.norm_local(x), mask)), dim=-1)
        merged = self.merge_convolution(both if mask is None else both * mask)
        x = x + self.dropout(self.merge(both + merged))
        x = torch.add(x, self.second(self.norm_second(x)), alpha=0.5)
        return self.norm_out(x)


class Encoder(nn.Module):
    """Subsampling, E-Branchformer layers, and one layer norm that every output goes through.

    `skipped` are the layers (1 = first) that the next training step skips (model/network/layer_drop.py).
    """

    skipped: frozenset[int] = frozenset()

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.convolution_padding = config.convolution_padding
        self.subsampling = Subsampling(config.channels, config.width, config.dropout, config.convolution_padding)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(EBranchformerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, T, F), lengths (B,) in frames -> states (B, S, D), their lengths (B,)."""
        outputs, lengths = self.layer_outputs(features, lengths)
        return outputs[-1], lengths

    def layer_outputs(
        self, features: Tensor, lengths: Tensor, lower: tuple[int, ...] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """Normalised outputs (B, S, D) of the `lower` layers (1 = first) and of the last layer, their lengths (B,)."""
        x = self.subsampling(features)
        # With convolution padding, attention reads every state that the convolutions give, but the lengths that CTC
        # and the decoder get are those without padding, one or two states fewer: the published models are trained so.
        valid = _valid_unless_all(subsampled_length(lengths, self.convolution_padding), x)
        lengths = subsampled_length(lengths)
        x = self.dropout(x if valid is None else x * valid[..., None])
        positions = relative_position_encoding(x.shape[1], x.shape[2], x.device).to(x.dtype)
        outputs = []
        for number, layer in enumerate(self.layers, start=1):
            is_skipped = self.training and number in self.skipped
            x = skip_layer(x, layer) if is_skipped else layer(x, positions, valid)
            if number in lower or number == len(self.layers):
                outputs.append(self.norm(x))
        return outputs, lengths
