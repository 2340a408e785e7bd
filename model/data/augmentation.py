"""SpecAugment (arXiv 1904.08779): time and frequency masks that are the same for an utterance on any rank."""

from __future__ import annotations

import random

from torch import Tensor

from model.recipe.recipe import AugmentationConfig


def spec_augment(features: Tensor, settings: AugmentationConfig, key: str) -> Tensor:
    """Features (T, 80) with masks of zeros, the mean of each bin.

    The width of a mask is uniform from 0 to the widest, its place uniform over where it fits. The masks are a function
    of `key` alone: neither the number of workers nor any other random draw changes them, and they change none.
    """
    if not settings.time_masks and not settings.frequency_masks:
        return features
    masked, draw = features.clone(), random.Random(key)
    frames, bins = features.shape
    widest = min(settings.time_mask_frames, int(settings.time_mask_share * frames))
    for _ in range(settings.time_masks):
        first, end = _draw_mask(draw, frames, widest)
        masked[first:end] = 0.0
    for _ in range(settings.frequency_masks):
        first, end = _draw_mask(draw, bins, settings.frequency_mask_bins)
        masked[:, first:end] = 0.0
    return masked


def _draw_mask(draw: random.Random, length: int, widest: int) -> tuple[int, int]:
    """Where a mask begins and ends."""
    width = draw.randint(0, widest)
    first = draw.randint(0, length - width)
    return first, first + width
