"""Recordings of any rate, format and number of channels, in files or containers, as 16 kHz mono samples."""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from model.corpora.containers import open_member
from model.corpora.findings import CHECKS
from model.corpora.source import AudioRef
from model.recipe.architecture import SAMPLE_RATE

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

SHORTEST_SECONDS = 0.1
POSSIBLE_RATES = (1_000, 1_000_000)  # others are no speech, and would take hours to resample
FOREVER = 1e9  # seconds: what begins later lies outside any recording
LARGEST = 1e30  # a sample beyond it is no number of a recording, and overflows when it is added to others
BLOCK_FRAMES = 2**22  # that are read at once: a damaged header may state more than any memory holds
UNKNOWN_FRAMES = 2**62  # libsndfile states more where a header leaves the length open
END_OF_FILE_BYTES = 65_536  # the last page of an Ogg file is no longer
SIZE_OF_STREAM = 0x7FFF0000  # what programs that write WAV to a pipe state, or more, since they cannot know
# In libsndfile's notes on a file: of RIFF, AIFF, CAF, AU and W64.
_STATED_SIZE = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be", re.MULTILINE)
_STATED_COUNT = re.compile(rb"^sample_count +-i +(\d+)", re.MULTILINE)  # in a NIST SPHERE header


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
    except (OSError, RuntimeError, TypeError, MemoryError) as error:  # TypeError: headerless files need a rate
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
    try:
        mode = os.stat(audio.file).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no file can have such a name
        raise AudioError("missing") from None
    except OSError as error:
        raise _unreadable(error) from None
    if not stat.S_ISREG(mode):
        raise AudioError("unreadable", "it is a folder or device")
    if not os.access(audio.file, os.R_OK):
        raise AudioError("unreadable", "it may not be read")
    return Path(audio.file)


def _read(file: soundfile.SoundFile, audio: AudioRef, content: Path | io.BytesIO) -> Stretch:
    rate, frames, channels = file.samplerate, file.frames, file.channels
    if not POSSIBLE_RATES[0] <= rate <= POSSIBLE_RATES[1]:
        raise AudioError("unreadable", f"{rate} Hz")
    if frames > UNKNOWN_FRAMES:
        raise AudioError("unreadable", "its header leaves its length open")
    first = round(min(audio.start, FOREVER) * rate)
    end = frames if audio.end is None else round(min(audio.end, FOREVER) * rate)
    if audio.channel is not None and audio.channel >= channels:
        raise AudioError("no-channel", f"channel {audio.channel} of {channels}")
    if _is_truncated(file, content):
        raise AudioError("truncated", f"{frames / rate:.2f} s are there")
    if not 0 <= first < min(end, frames) and (frames or audio.start):
        raise AudioError("outside", f"{audio.start:g} to {end / rate:g} s of {frames / rate:g} s")
    if first:  # some formats can only be read from their start
        file.seek(first)
    samples = _read_frames(file, min(end, frames) - first)
    if len(samples) < min(end, frames) - first:
        raise AudioError("truncated", f"{len(samples) / rate:.2f} s of {(min(end, frames) - first) / rate:.2f} s")
    if audio.channel is not None:
        samples = samples[:, audio.channel : audio.channel + 1]
    return Stretch(samples, rate, first, frames, channels, end > frames)


def _read_frames(file: soundfile.SoundFile, count: int) -> np.ndarray:
    """(T, channels): the next `count` frames, or as many as there are."""
    blocks: list[np.ndarray] = []
    while not blocks or (count > 0 and len(blocks[-1])):
        blocks.append(file.read(min(count, BLOCK_FRAMES), dtype="float64", always_2d=True))
        count -= len(blocks[-1])
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _is_truncated(file: soundfile.SoundFile, content: Path | io.BytesIO) -> bool:
    """Whether the file is shorter than its header says, as far as its format shows.

    libsndfile reads what is there, and notes the difference for some formats alone.
    """
    if file.format in ("WAV", "WAVEX", "AIFF", "CAF", "AU", "W64"):
        stated = [int(size) for size in _STATED_SIZE.findall(file.extra_info)]
        return any(0 < size < SIZE_OF_STREAM for size in stated)
    if file.format == "OGG":
        return not _ends_with_last_page(content)
    if file.format == "NIST":
        return file.frames < _nist_frames(content)
    return False


def _ends_with_last_page(content: Path | io.BytesIO) -> bool:
    """Whether the last Ogg page is whole and marked as the last one.

    RFC 3533, section 6: bit 0x04 of the header type at byte 5, the number of segments at byte 26, then their lengths.
    """
    tail = _read_bytes(content, -END_OF_FILE_BYTES)
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    header = 27 + (page[26] if len(page) > 26 else 0)
    return header <= len(page) and bool(page[5] & 0x04) and header + sum(page[27:header]) <= len(page)


def _nist_frames(content: Path | io.BytesIO) -> int:
    """The number of frames that a NIST SPHERE header states, 0 if none."""
    stated = _STATED_COUNT.search(_read_bytes(content, 1024))
    return int(stated[1]) if stated else 0


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
    if not (np.abs(samples) < LARGEST).all():
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
    import torch  # here because it takes seconds, which the check of a study should not cost

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
    import torch
    from torchaudio.transforms import Resample

    ratio = _ratio(rate)
    return Resample(ratio.denominator, ratio.numerator, dtype=torch.float64)


def _unreadable(error: Exception) -> AudioError:
    # libsndfile's own words: before them soundfile puts the path, or the address of what is in memory.
    words = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error) or type(error).__name__
    message = " ".join(words.split())
    return AudioError("truncated" if "lost sync" in message else "unreadable", message)
