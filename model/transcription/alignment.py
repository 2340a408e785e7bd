"""When tokens are spoken: the most likely CTC path of those that were decoded.

Shapes: S encoder frames, V' CTC classes, U tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import forced_align

from model.data.frontend import FRAMES_PER_SECOND, HOP_SAMPLES, WINDOW_SAMPLES
from model.recipe.architecture import SAMPLE_RATE
from model.transcription.cutting import MARGIN_DECIBELS

MOST_WIDENED = 0.5  # seconds that a word may reach beyond its tokens
STRIDE = 4  # feature frames for each encoder frame: two convolutions of kernel 3 and stride 2
Span = tuple[int, int]  # the first encoder frame, and the one after the last


def align_tokens(log_probs: Tensor, tokens: Sequence[int], blank: int) -> list[Span | None] | None:
    """The frames of each token on the most likely path through log_probs (S, V').

    A token that is the blank has none. None where there is no path: too few frames for the tokens and for the blanks
    between equal ones.
    """
    ids = np.array([token for token in tokens if token != blank])
    repeats = int((ids[1:] == ids[:-1]).sum())
    if len(ids) == 0 or len(ids) + repeats > len(log_probs):
        return None
    targets = torch.from_numpy(ids.astype(np.int32))[None].to(log_probs.device)
    path = forced_align(log_probs[None], targets, blank=blank)[0][0].cpu().numpy()
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1)).tolist()
    spans = [(first, end) for first, end in pairwise(edges) if path[first] != blank]
    left = iter(spans)
    return [None if token == blank else next(left) for token in tokens]


def frame_seconds(frame: float, convolution_padding: int) -> float:
    """When an encoder frame begins, in seconds: halfway from the middle of what the one before it reads to its own."""
    # Each convolution moves the middle of what a frame reads by one input frame, less its padding.
    middle = STRIDE * frame + 3 - 3 * convolution_padding
    samples = (middle - STRIDE / 2) * HOP_SAMPLES + WINDOW_SAMPLES / 2
    return samples / SAMPLE_RATE


def widen(spans: Sequence[tuple[float, float]], loudness: np.ndarray) -> list[tuple[float, float]]:
    """Words as long as they sound: spans, in seconds, that reach to the silence around them, or to the quietest place
    between two words.

    CTC marks a token for a frame or two, so that a word of one token would last for a twentieth of a second.
    `loudness` (T,) is that of each feature frame, as `measure_loudness` gives it.
    """
    most = round(MOST_WIDENED * FRAMES_PER_SECOND)
    edges = [[_nearest(time, len(loudness)) for time in span] for span in spans]
    ends = [0, *(end for _, end in edges)]
    starts = [*(start for start, _ in edges), len(loudness)]
    widened = [list(span) for span in spans]
    for place, (end, start) in enumerate(zip(ends, starts, strict=True)):
        between = loudness[end:start]
        if len(between) == 0:
            continue
        quiet = np.flatnonzero(between <= MARGIN_DECIBELS)
        lowest = int(between.argmin())
        first, last = (int(quiet[0]), int(quiet[-1]) + 1) if len(quiet) else (lowest, lowest)
        if not len(quiet) and place in (0, len(spans)):  # the first and the last word have the edges to themselves
            first, last = len(between), 0
        if place > 0:
            widened[place - 1][1] = max(widened[place - 1][1], (end + min(first, most)) / FRAMES_PER_SECOND)
        if place < len(spans):
            widened[place][0] = min(widened[place][0], max(end + last, start - most) / FRAMES_PER_SECOND)
    return [(start, end) for start, end in widened]


def _nearest(seconds: float, frames: int) -> int:
    """The feature frame that begins next to a time."""
    return min(max(round(seconds * FRAMES_PER_SECOND), 0), frames)
