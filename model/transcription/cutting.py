"""Cutting recordings: silence is left out, and what is still too long is cut at its quietest places.

Speech is what is louder than the noise around it in some bands of frequency, by energy alone. Each frame of it lies in
exactly one piece, so that no word is lost or doubled. Shapes: T frames of 10 ms, M mel bins, F bands of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from model.data.frontend import FRAMES_PER_SECOND
from model.errors import UserError

DECIBELS = 10.0 / log(10.0)  # for each unit of a natural logarithm of power
BINS_IN_A_BAND = 5
LOUDEST_SHARE = 0.25  # of the bands: voiced sounds are loud in the lower ones, others in the higher ones
LOWEST_LEVEL = 8.0  # of log-mel energies; white noise 75 dB below full scale; what is softer is silence
SMOOTHED_SECONDS = 0.05
FLOOR_SECONDS = 0.1  # the noise in a band is as loud as its quietest stretch of this length
AROUND_SECONDS = 5.0  # that lies so near
MARGIN_DECIBELS = 8.0  # speech is that much louder than the noise
QUIET_SECONDS = 0.3  # a cut is made where so much around it is quiet
SHORTEST_SOUND = 0.1  # seconds; what is shorter is a click
SHORTEST_SECONDS = 1.0  # shorter speech is decoded with what is next to it,
NEIGHBOUR_SECONDS = 1.5  # if it is that near


@dataclass(frozen=True)
class Cutting:
    """Where recordings are cut, in seconds: silences of at least `pause` are left out but for `padding` on either side
    of speech, and no piece is over `longest`.

    A model recognises best what looks like its training: with pieces and padding as long as its utterances have them.
    """

    longest: float = 30.0
    pause: float = 0.5
    padding: float = 0.03

    def __post_init__(self) -> None:
        if self.longest < 2 * SHORTEST_SECONDS:
            raise UserError(
                f"pieces of at most {self.longest:g} s are too short to be recognised; allow at least "
                f"{2 * SHORTEST_SECONDS:g} s"
            )
        if self.pause < 2 * SMOOTHED_SECONDS:
            raise UserError(
                f"pauses of {self.pause:g} s are parts of words; cut at silences of at least {2 * SMOOTHED_SECONDS:g} s"
            )


Piece = tuple[int, int]  # the first frame of a piece, and the one after its last


def cut(energies: Tensor, loudness: np.ndarray, cutting: Cutting) -> list[Piece]:
    """The pieces that hold speech of a recording with log-mel energies (T, M), in their order; none in silence.

    `loudness` is what `measure_loudness` gives of the energies. A recording that is not too long and has no long
    silence is one piece, from its first frame to its last.
    """
    if len(energies) == 0:
        return []
    spoken = _join_short(_find_speech(loudness > MARGIN_DECIBELS, cutting), cutting)
    levels = energies.clamp_min(LOWEST_LEVEL).mean(dim=1, keepdim=True)
    padded = [_trim(piece, levels[:, 0].numpy()) for piece in _pad(spoken, len(energies), cutting)]
    quiet = _smooth(levels, QUIET_SECONDS)[:, 0].numpy()
    return [piece for whole in padded for piece in _split(whole, quiet, cutting)]


def measure_loudness(energies: Tensor) -> np.ndarray:
    """How much louder than the noise around it each frame of log-mel energies (T, M) is, in dB: (T,)."""
    if len(energies) == 0:
        return np.zeros(0, dtype=np.float32)
    bands = energies.clamp_min(LOWEST_LEVEL).unflatten(1, (-1, BINS_IN_A_BAND)).mean(dim=2)
    around = 2 * round(AROUND_SECONDS * FRAMES_PER_SECOND) + 1
    floor = -F.max_pool1d(-_smooth(bands, FLOOR_SECONDS).T, around, 1, around // 2).T
    excess = DECIBELS * (_smooth(bands, SMOOTHED_SECONDS) - floor)
    loudest: np.ndarray = excess.topk(round(LOUDEST_SHARE * excess.shape[1]), dim=1).values.mean(dim=1).numpy()
    return loudest


def _smooth(levels: Tensor, seconds: float) -> Tensor:
    """(T, F) -> their means over so many seconds around each frame: (T, F)."""
    width = 2 * (round(seconds * FRAMES_PER_SECOND) // 2) + 1
    return F.avg_pool1d(levels.T[None], width, 1, width // 2, count_include_pad=False)[0].T


def _find_speech(sound: np.ndarray, cutting: Cutting) -> list[Piece]:
    """Sounds with less than a pause between them, together; clicks are left out."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], sound, [False])).astype(np.int8)))
    pieces: list[Piece] = []
    for first, end in edges.reshape(-1, 2).tolist():
        if pieces and first - pieces[-1][1] < cutting.pause * FRAMES_PER_SECOND:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((first, end))
    return [(first, end) for first, end in pieces if sound[first:end].sum() >= SHORTEST_SOUND * FRAMES_PER_SECOND]


def _join_short(pieces: list[Piece], cutting: Cutting) -> list[Piece]:
    """The pieces; one that is too short is joined to the nearer of its neighbours, where that is near."""
    joined = list(pieces)
    place = 0
    while place < len(joined):
        first, end = joined[place]
        before = first - joined[place - 1][1] if place else np.inf
        after = joined[place + 1][0] - end if place + 1 < len(joined) else np.inf
        left = place - 1 if before <= after else place
        is_near = min(before, after) <= NEIGHBOUR_SECONDS * FRAMES_PER_SECOND
        if end - first < SHORTEST_SECONDS * FRAMES_PER_SECOND and is_near:
            both = (joined[left][0], joined[left + 1][1])
            if both[1] - both[0] <= cutting.longest * FRAMES_PER_SECOND:
                joined[left : left + 2] = [both]
                place = left
                continue
        place += 1
    return joined


def _pad(pieces: list[Piece], frames: int, cutting: Cutting) -> list[Piece]:
    """The pieces with some of the silence around them; a recording's edge that is less than a pause away is taken."""
    padding, pause = round(cutting.padding * FRAMES_PER_SECOND), cutting.pause * FRAMES_PER_SECOND
    padded = []
    for place, (first, end) in enumerate(pieces):
        if place:
            start = max(first - padding, (pieces[place - 1][1] + first + 1) // 2)
        else:
            start = 0 if first < pause else first - padding
        if place + 1 < len(pieces):
            stop = min(end + padding, (end + pieces[place + 1][0]) // 2)
        else:
            stop = frames if frames - end < pause else end + padding
        padded.append((max(start, 0), min(stop, frames)))
    return padded


def _trim(piece: Piece, levels: np.ndarray) -> Piece:
    """The piece without digital silence where it was cut: in training no features are that far from all others."""
    first, end = piece
    alive = first + np.flatnonzero(levels[first:end] > LOWEST_LEVEL)
    return int(alive[0]) if first else first, int(alive[-1]) + 1 if end < len(levels) else end


def _split(piece: Piece, quiet: np.ndarray, cutting: Cutting) -> Iterator[Piece]:
    """The piece, or where it is too long its parts: each ends at the quietest place of the second half that it may
    have."""
    longest, shortest = (round(seconds * FRAMES_PER_SECOND) for seconds in (cutting.longest, SHORTEST_SECONDS))
    first, end = piece
    while end - first > longest:
        earliest, latest = first + longest // 2, min(first + longest, end - shortest)
        place = earliest + int(quiet[earliest : latest + 1].argmin())
        yield first, place
        first = place
    yield first, end
