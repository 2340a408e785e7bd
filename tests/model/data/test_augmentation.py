from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.data.augmentation import spec_augment
from model.recipe.recipe import AugmentationConfig

FEATURES = torch.rand(100, 80) + 1.0  # nowhere zero, so that every zero is a mask


def find_masks(features: Tensor) -> tuple[list[int], list[int]]:
    """The widths of the runs of masked frames, and of masked bins, each at least 1."""
    masked = features == 0
    widths = [
        [sum(1 for _ in run) for is_masked, run in itertools.groupby(lines.tolist()) if is_masked]
        for lines in (masked.all(dim=1), masked.all(dim=0))
    ]
    return widths[0], widths[1]


@given(st.text(max_size=5), st.integers(0, 3), st.integers(0, 3), st.floats(0, 0.3), st.integers(0, 30))
def test_masks_are_as_many_and_as_wide_as_the_recipe_allows_and_change_nothing_else(
    key: str, time_masks: int, frequency_masks: int, share: float, bins: int
) -> None:
    settings = AugmentationConfig(
        time_masks=time_masks, frequency_masks=frequency_masks, time_mask_share=share, frequency_mask_bins=bins % 28
    )
    augmented = spec_augment(FEATURES, settings, key)
    frames, masked_bins = find_masks(augmented)
    assert len(frames) <= time_masks
    assert len(masked_bins) <= frequency_masks
    assert sum(frames) <= time_masks * min(settings.time_mask_frames, int(share * 100))
    assert sum(masked_bins) <= frequency_masks * settings.frequency_mask_bins
    masked = augmented == 0
    assert torch.equal(masked, masked.all(dim=1, keepdim=True) | masked.all(dim=0, keepdim=True))
    assert torch.equal(augmented[~masked], FEATURES[~masked])


def test_masks_of_every_width_up_to_the_widest_are_drawn() -> None:
    settings = AugmentationConfig(time_masks=1, time_mask_frames=4, time_mask_share=0.9, frequency_masks=0)
    widths = [find_masks(spec_augment(FEATURES, settings, str(key)))[0] for key in range(100)]
    assert {width for run in widths for width in run} == {1, 2, 3, 4}
    assert 5 < widths.count([]) < 40, "a fifth of the masks have width 0"
    settings = AugmentationConfig(time_masks=0, frequency_masks=1, frequency_mask_bins=3)
    widths = [find_masks(spec_augment(FEATURES, settings, str(key)))[1] for key in range(100)]
    assert {width for run in widths for width in run} == {1, 2, 3}


def test_no_generator_of_torch_is_seeded_or_asked_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("masks have a generator of their own")

    expected = spec_augment(FEATURES, AugmentationConfig(), "0/3/utterance")
    for name in ("manual_seed", "seed", "get_rng_state", "set_rng_state", "rand", "randint", "Generator"):
        monkeypatch.setattr(torch, name, refuse)
    for name in ("manual_seed", "manual_seed_all", "get_rng_state", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    monkeypatch.setattr(torch.random, "fork_rng", refuse)
    assert torch.equal(spec_augment(FEATURES, AugmentationConfig(), "0/3/utterance"), expected)


def test_the_key_alone_decides_where_and_the_random_state_is_left_as_it_was() -> None:
    settings = AugmentationConfig()
    state = torch.get_rng_state()
    first = spec_augment(FEATURES, settings, "3/utterance")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(first, spec_augment(FEATURES, settings, "3/utterance"))
    assert not torch.equal(first, spec_augment(FEATURES, settings, "4/utterance"))
