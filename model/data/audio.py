"""Samples on their way into a corpus: from any rate to the project's."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torchaudio.transforms import Resample

from model.recipe.architecture import SAMPLE_RATE


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """(T,) at `rate` Hz as (T * 16000 / rate,) float64 at 16 kHz.

    In double precision, so that another processor's rounding stays far below one step of the 16 bits that are kept.
    """
    if rate == SAMPLE_RATE:
        return samples.astype(np.float64)
    return _resampler(rate)(torch.from_numpy(samples.astype(np.float64))).numpy()


@lru_cache
def _resampler(rate: int) -> Resample:
    # The filter bank grows with both terms of the ratio: 22254 Hz would need a gigabyte, its nearest small ratio
    # is off by less than a millionth. All usual rates are exact.
    ratio = Fraction(SAMPLE_RATE, rate).limit_denominator(1000)
    return Resample(ratio.denominator, ratio.numerator, dtype=torch.float64)
