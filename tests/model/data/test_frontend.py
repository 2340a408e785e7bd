from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.data import frontend


@pytest.mark.parametrize(("samples", "frames"), [(399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_only_whole_windows_become_frames(samples: int, frames: int) -> None:
    assert frontend.frame_count(samples) == frames
    if frames:
        assert frontend.extract_features(torch.randn(samples)).shape == (frames, 80)


def test_each_bin_has_mean_zero_and_population_deviation_one() -> None:
    features = frontend.extract_features(0.1 * torch.randn(16_000))
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(80), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(dim=0, correction=0), torch.ones(80), atol=1e-4, rtol=0)


def test_silence_gives_zeros_and_never_nan() -> None:
    assert torch.equal(frontend.extract_features(torch.zeros(8_000)), torch.zeros(48, 80))


def test_loudness_does_not_matter() -> None:
    waveform = 0.1 * torch.randn(16_000)
    torch.testing.assert_close(
        frontend.extract_features(waveform), frontend.extract_features(5 * waveform), atol=1e-2, rtol=0
    )


def test_features_agree_with_the_published_extractor(golden: Path) -> None:
    published = load_file(golden / "frontend.safetensors")
    for index, frames in enumerate(published["num_frames"].tolist()):
        ours = frontend.extract_features(published[f"waveform_{index}"])
        torch.testing.assert_close(ours, published["torchaudio_features"][index, :frames], atol=1e-3, rtol=0)
