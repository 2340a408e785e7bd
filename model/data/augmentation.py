"""SpecAugment (arXiv 1904.08779): time and frequency masks, the same for an utterance wherever it is trained."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor
from torchaudio.functional import mask_along_axis

from model.recipe.recipe import AugmentationConfig

TIME, FREQUENCY = 1, 2  # axes of (1, T, F)


def spec_augment(features: Tensor, sizes: AugmentationConfig, key: str) -> Tensor:
    """Features (T, 80) with masks of zeros, the mean; `key` alone decides where, so no worker count changes it."""
    if not sizes.time_masks and not sizes.frequency_masks:
        return features
    masked = features[None].clone()
    widest = min(sizes.time_mask_frames, int(sizes.time_mask_share * features.shape[0]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(key.encode()))
        for _ in range(sizes.time_masks):
            masked = mask_along_axis(masked, widest + 1, 0.0, TIME)
        for _ in range(sizes.frequency_masks):
            masked = mask_along_axis(masked, sizes.frequency_mask_bins + 1, 0.0, FREQUENCY)
    return masked[0]
