"""Augmentation of waveforms while they are read: gain, noise, reverberation. The same draw has the same result.

Features are standardised for each utterance, so that a gain alone changes nothing: it is for what clips at full scale.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import add_noise, fftconvolve

from model.recipe.architecture import SAMPLE_RATE
from model.recipe.recipe import AugmentationConfig

DECAY = 6.9  # of a room's sound, in powers of e, over its reverberation time: 60 dB
STEEPEST_NOISE = 2.0  # power falls with frequency to the power of 0, white, to this, brown


def augment_waveform(samples: Tensor, settings: AugmentationConfig, key: str) -> Tensor:
    """Samples (T,) within [-1, 1] at 16 kHz, changed as `key` alone says: reverberation, then noise, then gain."""
    draw = np.random.RandomState(np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype="<u4"))
    # All is drawn, whether it is used or not: whether there is noise does not change the room.
    reverberates, is_noisy, is_loud = (
        bool(draw.random_sample() < share)
        for share in (settings.reverberation_share, settings.noise_share, settings.gain_share)
    )
    seconds, decibels, gain = (
        float(draw.uniform(*bounds))
        for bounds in (settings.reverberation_seconds, settings.noise_snr, settings.gain_db)
    )
    if reverberates:
        samples = reverberate(samples, seconds, draw)
    if is_noisy and samples.any():
        noise = make_noise(len(samples), float(draw.uniform(0.0, STEEPEST_NOISE)), draw)
        samples = add_noise(samples[None], noise[None], torch.tensor([decibels]))[0]
    return (samples * 10 ** (gain / 20)).clamp(-1.0, 1.0) if is_loud else samples


def reverberate(samples: Tensor, seconds: float, draw: np.random.RandomState) -> Tensor:
    """(T,) in a room whose sound falls by 60 dB in so many seconds: the direct sound, then decaying noise (Polack)."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = draw.standard_normal(len(time)) * np.exp(-DECAY * time / seconds)
    response *= 1.0 / np.sqrt(np.sum(response**2))  # as much reflected as direct
    response[0] = 1.0
    changed = fftconvolve(samples, torch.from_numpy(response).to(samples.dtype))[: len(samples)]
    return changed * (samples.norm() / changed.norm().clamp_min(1e-9))


def make_noise(length: int, steepness: float, draw: np.random.RandomState) -> Tensor:
    """(T,) whose power falls with frequency to the power of `steepness`."""
    spectrum = np.fft.rfft(draw.standard_normal(length))
    frequencies = np.maximum(np.arange(len(spectrum)), 1.0)
    return torch.from_numpy(np.fft.irfft(spectrum * frequencies ** (-steepness / 2), length)).float()
