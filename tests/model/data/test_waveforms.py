from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.waveforms import augment_waveform, make_noise, reverberate
from model.recipe.recipe import AugmentationConfig

SPEECH = torch.from_numpy(np.random.RandomState(0).uniform(-0.3, 0.3, 16_000)).float()
ALL = {"noise_share": 1.0, "reverberation_share": 1.0, "gain_share": 1.0}


def draw(key: str = "0/0/a") -> np.random.RandomState:
    return np.random.RandomState(len(key))


@given(st.text(min_size=1), st.sampled_from([{}, *({name: 0.5} for name in ALL), ALL]))
def test_a_waveform_is_changed_as_its_key_says_and_keeps_its_length_and_bounds(key: str, shares: dict) -> None:
    settings = AugmentationConfig(**shares)
    changed = augment_waveform(SPEECH, settings, key)
    assert changed.shape == SPEECH.shape
    assert changed.dtype == torch.float32
    assert torch.equal(augment_waveform(SPEECH, settings, key), changed)
    if not shares:
        assert torch.equal(changed, SPEECH)
    if "gain_share" in shares:
        assert changed.abs().max() <= 1.5


@pytest.mark.parametrize("name", list(ALL))
def test_as_many_utterances_are_changed_as_the_share_says(name: str) -> None:
    settings = AugmentationConfig(**{name: 0.3, "gain_db": (3.0, 6.0)})
    changed = [not torch.equal(augment_waveform(SPEECH, settings, f"0/0/{n}"), SPEECH) for n in range(300)]
    assert sum(changed) / len(changed) == pytest.approx(0.3, abs=0.1)


def test_other_passes_and_utterances_are_changed_in_other_ways() -> None:
    settings = AugmentationConfig(**ALL)
    keys = ("0/0/a", "0/1/a", "1/0/a", "0/0/b")
    assert len({augment_waveform(SPEECH, settings, key).sum().item() for key in keys}) == len(keys)


@pytest.mark.parametrize("decibels", [0.0, 20.0])
def test_noise_is_as_far_below_the_speech_as_is_asked(decibels: float) -> None:
    settings = AugmentationConfig(noise_share=1.0, noise_snr=(decibels, decibels))
    noise = augment_waveform(SPEECH, settings, "0/0/a") - SPEECH
    ratio = 10 * torch.log10(SPEECH.square().sum() / noise.square().sum())
    assert float(ratio) == pytest.approx(decibels, abs=0.01)


def test_steep_noise_has_its_power_at_low_frequencies() -> None:
    def share_below_1000_hz(steepness: float) -> float:
        power = torch.fft.rfft(make_noise(16_000, steepness, draw())).abs().square()
        return float(power[:1000].sum() / power.sum())

    assert share_below_1000_hz(0.0) == pytest.approx(1 / 8, abs=0.02)
    assert share_below_1000_hz(2.0) > 0.9


def test_a_rooms_sound_falls_by_60_db_in_its_time() -> None:
    click = torch.zeros(16_000)
    click[0] = 1.0
    answer = reverberate(click, 0.5, draw()).square()
    energy = answer.flip(0).cumsum(0).flip(0)  # Schroeder's backward integral, after the direct sound
    fall = 10 * torch.log10(energy[1 + 4000] / energy[1])
    assert float(fall) == pytest.approx(-30, abs=1.5), "half of the time, half of the decibels"
    assert float(answer[0]) == pytest.approx(0.5, abs=0.02), "as much direct sound as reflected"


def test_silence_stays_silent_and_is_no_error() -> None:
    settings = AugmentationConfig(**ALL)
    assert not augment_waveform(torch.zeros(1600), settings, "0/0/a").any()


def test_a_range_that_is_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gain_db is \[12, 0\], but must be \[low, high\]"):
        AugmentationConfig(gain_db=(12.0, 0.0))
