"""Recordings of any rate, format and number of channels, in files or containers, as 16 kHz mono samples."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from model.corpora.containers import open_member
from model.corpora.findings import CHECKS
from model.corpora.source import AudioRef
from model.recipe.architecture import SAMPLE_RATE

SHORTEST_SECONDS = 0.1
END_OF_FILE_BYTES = 65_536  # the last page of an Ogg file is no longer
SIZE_OF_STREAM = 0x7FFF0000  # what programs that write WAV to a pipe state, or more, since they cannot know
_STATED_SIZE = re.compile(r"^ *(?:data|SSND) *: (\d+) \(should be", re.MULTILINE)  # in libsndfile's notes on a file


class AudioError(Exception):
    """A recording that cannot be used: `check` is the one that it fails, `detail` what is particular to it."""

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{CHECKS[check].meaning} ({detail})" if detail else CHECKS[check].meaning)
        self.check, self.detail = check, detail


@dataclass(frozen=True)
class Stretch:
    """Samples (T, channels) in float64 as they were recorded, at `rate` Hz, from frame `first` on.

    `frames` and `channels` are the whole recording's; `is_cut` where it ends before the stretch was to.
    """

    samples: np.ndarray
    rate: int
    first: int
    frames: int
    channels: int
    is_cut: bool


def read_stretch(audio: AudioRef) -> Stretch:
    """The samples of a stretch of a recording. Raises an AudioError where it cannot be used."""
    content = _open(audio)
    try:
        with soundfile.SoundFile(content) as file:
            return _read(file, audio, content)
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: headerless files need a rate
        raise _unreadable(error) from None


def read_audio(path: Path) -> np.ndarray:
    """A recording as (T,) float64 at 16 kHz. Raises an AudioError where it cannot be used."""
    stretch = read_stretch(AudioRef(str(path)))
    return to_mono_16khz(stretch.samples, stretch.rate)


def _open(audio: AudioRef) -> Path | io.BytesIO:
    if audio.member is not None:
        try:
            return io.BytesIO(open_member(Path(audio.file), audio.member, audio.column))
        except OSError as error:
            raise _unreadable(error) from None
        except LookupError as error:
            raise AudioError("missing", str(error)) from None
    path = Path(audio.file)
    if not path.is_file():
        raise AudioError("missing")
    return path


def _read(file: soundfile.SoundFile, audio: AudioRef, content: Path | io.BytesIO) -> Stretch:
    rate, frames, channels = file.samplerate, file.frames, file.channels
    first = round(audio.start * rate)
    end = frames if audio.end is None else round(audio.end * rate)
    if audio.channel is not None and audio.channel >= channels:
        raise AudioError("no-channel", f"channel {audio.channel} of {channels}")
    if _is_truncated(file, content):
        raise AudioError("truncated", f"{frames / rate:.2f} s are there")
    if not 0 <= first < min(end, frames) and (frames or audio.start):
        raise AudioError("outside", f"{audio.start:g} to {end / rate:g} s of {frames / rate:g} s")
    file.seek(first)
    samples = file.read(min(end, frames) - first, dtype="float64", always_2d=True)  # (T, channels)
    if len(samples) < min(end, frames) - first:
        raise AudioError("truncated", f"{len(samples) / rate:.2f} s of {(min(end, frames) - first) / rate:.2f} s")
    if audio.channel is not None:
        samples = samples[:, audio.channel : audio.channel + 1]
    return Stretch(samples, rate, first, frames, channels, end > frames)


def _is_truncated(file: soundfile.SoundFile, content: Path | io.BytesIO) -> bool:
    """Whether the file is shorter than its header says, as far as its format shows.

    libsndfile reads what is there, and notes the difference for RIFF and AIFF files alone.
    """
    if file.format in ("WAV", "WAVEX", "AIFF"):
        stated = [int(size) for size in _STATED_SIZE.findall(file.extra_info)]
        return any(0 < size < SIZE_OF_STREAM for size in stated)
    if file.format == "OGG":
        return not _ends_with_last_page(content)
    if file.format == "NIST":
        return file.frames < _nist_frames(content)
    return False


def _ends_with_last_page(content: Path | io.BytesIO) -> bool:
    """Whether the last Ogg page is marked as the last one (RFC 3533, section 6: bit 0x04 of its header type)."""
    tail = _read_bytes(content, -END_OF_FILE_BYTES)
    page = tail.rfind(b"OggS")
    return page >= 0 and page + 5 < len(tail) and bool(tail[page + 5] & 0x04)


def _nist_frames(content: Path | io.BytesIO) -> int:
    """The number of frames that a NIST SPHERE header states, 0 if none."""
    for line in _read_bytes(content, 1024).decode("latin-1").splitlines():
        if line.startswith("sample_count"):
            return int(line.split()[-1])
    return 0


def _read_bytes(content: Path | io.BytesIO, count: int) -> bytes:
    """The first `count` bytes, or the last ones where it is negative."""
    if isinstance(content, io.BytesIO):
        whole = content.getvalue()
        return whole[:count] if count > 0 else whole[count:]
    with content.open("rb") as stream:
        if count < 0:
            stream.seek(max(0, content.stat().st_size + count))
        return stream.read(abs(count))


def to_mono_16khz(samples: np.ndarray, rate: int) -> np.ndarray:
    """(T,) or (T, channels) at `rate` Hz as the mean of the channels, (T * 16000 / rate,) float64 at 16 kHz.

    Raises an AudioError where the samples are too few or not all finite.
    """
    if not np.isfinite(samples).all():
        raise AudioError("not-finite")
    if len(samples) < SHORTEST_SECONDS * rate:
        raise AudioError("short")
    return resample(samples if samples.ndim == 1 else samples.mean(axis=1), rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """(T,) at `rate` Hz as (T * 16000 / rate,) float64 at 16 kHz.

    In double precision, so that another processor's rounding stays far below one step of the 16 bits that are kept.
    """
    if rate == SAMPLE_RATE:
        return samples.astype(np.float64)
    return _resampler(rate)(torch.from_numpy(samples.astype(np.float64))).numpy()


def resampled_length(samples: int, rate: int) -> int:
    """How many samples `resample` makes of so many."""
    ratio = _ratio(rate)
    return -(-samples * ratio.numerator // ratio.denominator)


def _ratio(rate: int) -> Fraction:
    """Samples at 16 kHz for each at `rate` Hz."""
    # The filter bank grows with both terms of the ratio: 22254 Hz would need a gigabyte, its nearest small ratio
    # is off by less than a millionth. All usual rates are exact.
    return Fraction(SAMPLE_RATE, rate).limit_denominator(1000)


@lru_cache
def _resampler(rate: int) -> Resample:
    ratio = _ratio(rate)
    return Resample(ratio.denominator, ratio.numerator, dtype=torch.float64)


def _unreadable(error: Exception) -> AudioError:
    message = " ".join(str(error).split())
    return AudioError("truncated" if "lost sync" in message else "unreadable", message)
