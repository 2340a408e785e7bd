"""Layer drop (arXiv 1909.11556; stochastic depth, 1603.09382): a training step skips whole layers.

A skipped layer's output is its input. Any layer may be skipped, and nothing is rescaled, as in LayerDrop: scoring uses
all layers as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def skip_layer(x: Tensor, layer: nn.Module) -> Tensor:
    """x, with a gradient of 0 for the layer's parameters.

    Without a gradient DistributedDataParallel would wait for one, and the optimiser would leave out these parameters
    on one worker and not on two.
    """
    trained = [parameter.sum() for parameter in layer.parameters() if parameter.requires_grad]
    return x + 0.0 * torch.stack(trained).sum() if trained else x
