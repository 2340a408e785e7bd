"""Where recordings are cut, on planted energies and on the speech of the miniature corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.corpora.audio import read_audio
from model.corpora.corpus import Corpus
from model.data.frontend import log_mel
from model.data.waveforms import make_noise
from model.errors import UserError
from model.recipe.architecture import MEL_BINS, SAMPLE_RATE
from model.transcription.cutting import MARGIN_DECIBELS, Cutting, Piece, measure_loudness
from model.transcription.cutting import cut as cut_measured

SILENCE, SPEECH = 9.0, 14.0  # of log-mel energies: 22 dB apart
STRETCHES = st.lists(st.tuples(st.integers(15, 400), st.integers(1, 300)), min_size=1, max_size=8)


def cut(energies: Tensor, cutting: Cutting) -> list[Piece]:
    return cut_measured(energies, measure_loudness(energies), cutting)


def plant(stretches: list[tuple[int, int]], tail: int = 0) -> tuple[Tensor, np.ndarray]:
    """Energies (T, 80) of stretches of so many frames of silence and of speech in turn, and where speech is (T,).

    As of speech, the energy of each band rises and falls four times a second, not all together.
    """
    levels = [level for silent, spoken in stretches for level in (*[SILENCE] * silent, *[SPEECH] * spoken)]
    levels += [SILENCE] * tail
    draw, speech = torch.Generator().manual_seed(0), np.array(levels) == SPEECH
    noise = 0.05 * torch.randn(len(levels), MEL_BINS, generator=draw)
    phases = (6.3 * torch.rand(MEL_BINS // 5, generator=draw)).repeat_interleave(5)
    changes = 2.0 * torch.sin(2 * torch.pi * 0.04 * torch.arange(len(levels))[:, None] + phases)
    return torch.tensor(levels)[:, None] + noise + changes * torch.from_numpy(speech)[:, None], speech


@pytest.fixture(scope="module")
def utterances(corpus: Corpus) -> list[Tensor]:
    """The samples of some utterances, equally loud."""
    paths = [Path(cut.recording.sources[0].source) for cut in corpus.cuts("train")]
    waveforms = [torch.from_numpy(read_audio(path)).float() for path in paths[:8]]
    return [0.1 * waveform / waveform.std() for waveform in waveforms]


@given(STRETCHES, st.integers(0, 200), st.sampled_from([2.0, 5.0, 30.0]), st.sampled_from([0.2, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_each_frame_of_speech_is_in_exactly_one_piece(
    stretches: list[tuple[int, int]], tail: int, longest: float, pause: float
) -> None:
    energies, speech = plant(stretches, tail)
    pieces = cut(energies, Cutting(longest, pause))
    assert all(first < end for first, end in pieces)
    assert [edge for piece in pieces for edge in piece] == sorted(edge for piece in pieces for edge in piece)
    assert all(end - first <= 100 * longest for first, end in pieces)
    taken = np.zeros(len(speech), dtype=int)
    for first, end in pieces:
        taken[first:end] += 1
    assert taken.max(initial=0) <= 1
    edges = np.flatnonzero(np.diff(speech, prepend=False, append=False)).reshape(-1, 2)
    for first, end in edges.tolist():
        if end - first > 15:  # else it may be a click
            assert taken[first:end].all(), (first, end, pieces)


@given(st.integers(15, 2900), st.integers(15, 45), st.integers(0, 45))
@settings(max_examples=15, deadline=None)
def test_what_is_short_enough_and_has_no_pause_is_one_piece(spoken: int, before: int, after: int) -> None:
    energies, _ = plant([(before, spoken)], after)
    assert cut(energies, Cutting(30.0, 0.5)) == [(0, len(energies))]


def test_silences_are_left_out_but_for_the_padding() -> None:
    energies, _ = plant([(300, 200), (100, 200)], 300)
    (first, second) = cut(energies, Cutting(pause=0.5, padding=0.1))
    assert first == pytest.approx((290, 510), abs=3)
    assert second == pytest.approx((590, 810), abs=3)
    assert cut(energies, Cutting(pause=1.1, padding=0.1)) == [(first[0], second[1])]


def test_a_recording_without_silence_is_cut_at_its_least_loud_places() -> None:
    energies, _ = plant([(0, 700)])
    for soft in (170, 420):
        energies[soft - 15 : soft + 16] -= 2.0
    first, second, third = cut(energies, Cutting(longest=3.0))
    assert (first[1], second[1]) == pytest.approx((170, 420), abs=10)
    assert (first[0], second[0], third) == (0, first[1], (second[1], 700))


def test_the_last_piece_is_never_a_splinter() -> None:
    for frames in range(301, 420, 7):
        pieces = cut(plant([(0, frames)])[0], Cutting(longest=3.0))
        assert (pieces[0][0], pieces[-1][1]) == (0, frames)
        assert all(end - first >= 100 for first, end in pieces), pieces


def test_short_words_are_decoded_with_what_is_near() -> None:
    energies, _ = plant([(300, 30), (80, 200), (300, 30)], 300)
    assert len(cut(energies, Cutting(pause=0.5))) == 2, "the last word is too far away"


@pytest.mark.parametrize("steepness", [0.0, 1.0, 2.0])
def test_noise_alone_has_no_speech(steepness: float) -> None:
    noise = make_noise(60 * SAMPLE_RATE, steepness, np.random.RandomState(0))
    assert measure_loudness(log_mel(0.05 * noise)).max() < MARGIN_DECIBELS


def test_hum_clicks_and_digital_silence_have_no_speech() -> None:
    time = torch.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    hum = 0.05 * torch.sin(2 * torch.pi * 50 * time) + 0.001 * torch.randn(len(time))
    assert cut(log_mel(hum), Cutting()) == []
    hum[5 * SAMPLE_RATE] = 0.9
    assert cut(log_mel(hum), Cutting()) == []
    assert cut(log_mel(torch.zeros(SAMPLE_RATE)), Cutting()) == []
    assert cut(torch.empty(0, MEL_BINS), Cutting()) == []


@pytest.mark.parametrize("decibels", [30.0, 10.0, 0.0])
def test_utterances_in_noise_are_whole(utterances: list[Tensor], decibels: float) -> None:
    for waveform in utterances:
        noisy = waveform + 0.1 * 10 ** (-decibels / 20) * torch.randn(len(waveform))
        energies = log_mel(noisy)
        assert cut(energies, Cutting(pause=0.8)) == [(0, len(energies))]


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_recording_of_utterances_is_cut_between_them(utterances: list[Tensor], noise: float) -> None:
    draw = np.random.RandomState(0)
    parts: list[Tensor] = []
    spoken: list[tuple[float, float]] = []
    for waveform in utterances:
        parts.append(torch.zeros(int(draw.uniform(0.7, 3.0) * SAMPLE_RATE)))
        start = sum(map(len, parts)) / 160
        parts.append(waveform)
        spoken.append((start, start + len(waveform) / 160))
    joined = torch.cat(parts)
    pieces = cut(log_mel(joined + noise * torch.randn(len(joined))), Cutting())
    assert len(pieces) == len(spoken)
    for piece, expected in zip(pieces, spoken, strict=True):
        assert piece == pytest.approx(expected, abs=8)


def test_settings_that_cut_words_are_refused() -> None:
    with pytest.raises(UserError, match=r"^pieces of at most 1 s are too short to be recognised; allow at least 2 s$"):
        Cutting(longest=1.0)
    with pytest.raises(UserError, match=r"^pauses of 0.05 s are parts of words; cut at silences of at least 0.1 s$"):
        Cutting(pause=0.05)
