"""CTC alignment, on planted posteriors and against all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network.subsampling import subsampled_length
from model.transcription.alignment import align_tokens, frame_seconds, widen

BLANK = 4


def plant(path: list[int]) -> Tensor:
    """Log probabilities (S, 5) whose most likely path is this."""
    logits = torch.zeros(len(path), 5)
    logits[torch.arange(len(path)), torch.tensor(path)] = 5.0
    return logits.log_softmax(dim=-1)


def collapse(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token != BLANK]


def test_tokens_are_where_the_path_has_them() -> None:
    path = [BLANK, 1, 1, BLANK, BLANK, 2, BLANK, 2, 2, 3]
    assert align_tokens(plant(path), [1, 2, 2, 3], BLANK) == [(1, 3), (5, 6), (7, 9), (9, 10)]
    assert align_tokens(plant(path), [1, BLANK, 2, 2, 3], BLANK) == [(1, 3), None, (5, 6), (7, 9), (9, 10)]


def test_there_is_no_path_where_frames_are_too_few() -> None:
    assert align_tokens(plant([1, BLANK, 1]), [1, 1], BLANK) == [(0, 1), (2, 3)]
    assert align_tokens(plant([1, 1]), [1, 1], BLANK) is None
    assert align_tokens(plant([1, 2]), [1, 2, 3], BLANK) is None
    assert align_tokens(plant([1, 2]), [], BLANK) is None
    assert align_tokens(plant([1, 2]), [BLANK], BLANK) is None


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_no_other_path_is_more_likely(seed: int, tokens: list[int]) -> None:
    log_probs = torch.randn(5, 5, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=-1)
    spans = align_tokens(log_probs, tokens, BLANK)
    paths = [path for path in itertools.product(range(5), repeat=5) if collapse(path) == tokens]
    assert (spans is None) == (not paths)
    if spans is None:
        return
    found = [BLANK] * 5
    for token, span in zip(tokens, spans, strict=True):
        assert span is not None
        found[span[0] : span[1]] = [token] * (span[1] - span[0])
    scores = {path: float(log_probs[torch.arange(5), torch.tensor(path)].sum()) for path in paths}
    assert scores[tuple(found)] == pytest.approx(max(scores.values()))


@pytest.mark.parametrize("padding", [0, 1])
def test_encoder_frames_follow_each_other_and_end_with_the_recording(padding: int) -> None:
    assert frame_seconds(1, padding) - frame_seconds(0, padding) == pytest.approx(0.04)
    feature_frames = 998  # of 10 s
    states = subsampled_length(feature_frames, padding)
    assert frame_seconds(states, padding) == pytest.approx(10.0, abs=0.06)
    assert frame_seconds(0, padding) == pytest.approx(0.0, abs=0.04)


QUIET, LOUD = 0.0, 20.0  # dB over the noise


def test_words_reach_to_the_silence_around_them() -> None:
    loudness = np.full(100, QUIET)
    loudness[10:40] = loudness[60:90] = LOUD
    assert widen([(0.2, 0.24), (0.7, 0.74)], loudness) == [(0.1, 0.4), (0.6, 0.9)]
    assert widen([(0.05, 0.45), (0.7, 0.74)], loudness) == [(0.05, 0.45), (0.6, 0.9)], "none becomes shorter"


def test_words_without_silence_between_them_meet_at_the_quietest_place() -> None:
    loudness = np.full(100, LOUD)
    loudness[55] = LOUD - 5
    assert widen([(0.2, 0.24), (0.7, 0.74)], loudness) == [(0.0, 0.55), (0.55, 1.0)]


def test_no_word_reaches_further_than_half_a_second() -> None:
    loudness = np.full(500, LOUD)
    assert widen([(2.0, 2.04)], loudness) == [(1.5, 2.54)]
    assert widen([(4.96, 5.04)], loudness) == [(4.46, 5.04)], "frames end with the piece, spans a little later"


@given(st.lists(st.integers(0, 60), min_size=2, max_size=12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_widened_words_keep_their_order_and_hold_their_tokens(steps: list[int], seed: int) -> None:
    times = (np.cumsum(steps[: len(steps) // 2 * 2]) / 100).reshape(-1, 2).tolist()
    loudness = np.random.RandomState(seed).uniform(-5.0, 25.0, int(100 * times[-1][1]) + 20)
    widened = widen([(start, end) for start, end in times], loudness)
    flat = [time for span in widened for time in span]
    assert flat == sorted(flat)
    for (start, end), (wider_start, wider_end) in zip(times, widened, strict=True):
        assert wider_start <= start <= end <= wider_end
