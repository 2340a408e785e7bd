"""Recordings to transcribe: files, bytes or arrays as mono samples at 16 kHz."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from model.corpora.audio import UNKNOWN_FRAMES, AudioError, read_stretch, to_mono_16khz
from model.corpora.source import AudioRef
from model.errors import UserError

Recording = str | Path | bytes | np.ndarray


def read_recording(recording: Recording, name: str, rate: int | None = None, channel: int | None = None) -> np.ndarray:
    """(N,) float32 at 16 kHz, the mean of the channels or one of them, counted from 0.

    A recording is the path of an audio file, the bytes of one, or an array (N,) or (N, channels) of floats within
    [-1, 1] at `rate` Hz. What cannot be used is a UserError that begins with the name.
    """
    try:
        if isinstance(recording, np.ndarray):
            return _read_array(recording, name, rate, channel)
        if isinstance(recording, bytes):
            with tempfile.NamedTemporaryFile() as file:
                file.write(recording)
                file.flush()
                return _read_file(file.name, channel)
        return _read_file(str(recording), channel)
    except AudioError as error:
        raise UserError(f"{name}: {error}; give another recording") from None


def measure_seconds(paths: Iterable[str | Path]) -> float:
    """How much audio the files hold by their headers; a file that cannot be read holds none."""
    seconds = 0.0
    for path in paths:
        with contextlib.suppress(OSError, RuntimeError, TypeError):
            info = soundfile.info(path)
            seconds += info.frames / info.samplerate if info.frames <= UNKNOWN_FRAMES else 0.0
    return seconds


def _read_file(path: str, channel: int | None) -> np.ndarray:
    stretch = read_stretch(AudioRef(path, channel=channel))
    return to_mono_16khz(stretch.samples, stretch.rate).astype(np.float32)


def _read_array(samples: np.ndarray, name: str, rate: int | None, channel: int | None) -> np.ndarray:
    if rate is None:
        raise UserError(f"{name}: is an array without a sample rate; give sample_rate in Hz")
    if channel is not None and samples.ndim == 2:
        if channel >= samples.shape[1]:
            raise AudioError("no-channel", f"channel {channel} of {samples.shape[1]}")
        samples = samples[:, channel]
    return to_mono_16khz(samples, rate).astype(np.float32)
