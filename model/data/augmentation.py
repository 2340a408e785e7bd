"""SpecAugment (arXiv 1904.08779): time and frequency masks that are the same for an utterance on any rank."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor
from torchaudio.functional import mask_along_axis

from model.recipe.recipe import AugmentationConfig

TIME, FREQUENCY = 1, 2  # axes of (1, T, F)


def spec_augment(features: Tensor, settings: AugmentationConfig, key: str) -> Tensor:
    """Features (T, 80) with masks of zeros, the mean of each bin.

    The masks are a function of `key` alone, so the number of workers does not change them; torch's random state is
    left as it was.
    """
    if not settings.time_masks and not settings.frequency_masks:
        return features
    masked = features[None].clone()
    widest = min(settings.time_mask_frames, int(settings.time_mask_share * features.shape[0]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(key.encode()))
        for _ in range(settings.time_masks):
            masked = mask_along_axis(masked, widest + 1, 0.0, TIME)
        for _ in range(settings.frequency_masks):
            masked = mask_along_axis(masked, settings.frequency_mask_bins + 1, 0.0, FREQUENCY)
    return masked[0]
