"""Front end: 80-bin Kaldi log-mel with per-utterance mean and variance normalisation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from model.recipe.architecture import MEL_BINS, SAMPLE_RATE

WINDOW_SAMPLES = SAMPLE_RATE * 25 // 1000
HOP_SAMPLES = SAMPLE_RATE * 10 // 1000
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_SAMPLES
FULL_SCALE = 2.0**15  # Kaldi's scale: 16-bit samples as numbers
SMALLEST_DEVIATION = 1e-5  # a bin that never changes becomes 0 instead of NaN


def frame_count(samples: int) -> int:
    """Number of whole windows in that many samples."""
    return 0 if samples < WINDOW_SAMPLES else 1 + (samples - WINDOW_SAMPLES) // HOP_SAMPLES


def log_mel(waveform: Tensor) -> Tensor:
    """Samples (n,) in [-1, 1] at 16 kHz -> log-mel energies (frame_count(n), 80)."""
    return kaldi.fbank(
        waveform[None] * FULL_SCALE,
        num_mel_bins=MEL_BINS,
        sample_frequency=SAMPLE_RATE,
        frame_length=1000 * WINDOW_SAMPLES / SAMPLE_RATE,
        frame_shift=1000 * HOP_SAMPLES / SAMPLE_RATE,
        dither=0.0,
    )


def standardise(energies: Tensor) -> Tensor:
    """Scale each bin to mean 0 and population deviation 1 over the utterance: (T, 80) -> (T, 80)."""
    deviation, mean = torch.std_mean(energies, dim=0, correction=0)
    return (energies - mean) / deviation.clamp_min(SMALLEST_DEVIATION)


def extract_features(waveform: Tensor) -> Tensor:
    """Samples (n,) in [-1, 1] at 16 kHz -> the encoder's input (frame_count(n), 80)."""
    return standardise(log_mel(waveform))
