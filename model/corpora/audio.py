"""Recordings of any rate, format and number of channels as 16 kHz mono samples."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from model.recipe.architecture import SAMPLE_RATE

SHORTEST_SECONDS = 0.1
TOO_SHORT = f"audio shorter than {SHORTEST_SECONDS} s"


class AudioError(Exception):
    """A recording that cannot be used: `reason` is its kind of fault, `detail` what is particular to it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


def check_audio_file(path: Path) -> None:
    """Raise an AudioError where the file is missing, is no audio or is too short; only its header is read."""
    if not path.is_file():
        raise AudioError("no such audio file")
    try:
        header = soundfile.info(path)
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: headerless files need a rate
        raise _unreadable(error) from None
    if header.frames < SHORTEST_SECONDS * header.samplerate:
        raise AudioError(TOO_SHORT)


def read_audio(path: Path) -> np.ndarray:
    """A recording as (T,) float64 at 16 kHz. Raises an AudioError where it cannot be used."""
    check_audio_file(path)
    try:
        samples, rate = soundfile.read(path, dtype="float64", always_2d=True)  # (T, channels)
    except (OSError, RuntimeError, TypeError) as error:
        raise _unreadable(error) from None
    return to_mono_16khz(samples, rate)


def to_mono_16khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """(T,) or (T, channels) at `rate` Hz as the mean of the channels, (T * 16000 / rate,) float64 at 16 kHz.

    Raises an AudioError where the samples are too few or not all finite.
    """
    if not np.isfinite(samples).all():
        raise AudioError("audio holds values that are no numbers")
    if len(samples) < SHORTEST_SECONDS * rate:
        raise AudioError(TOO_SHORT)
    return resample(samples if samples.ndim == 1 else samples.mean(axis=1), rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
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


def _unreadable(error: Exception) -> AudioError:
    return AudioError("audio cannot be read", " ".join(str(error).split()))
