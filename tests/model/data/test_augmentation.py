from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.augmentation import spec_augment
from model.recipe.recipe import AugmentationConfig

FEATURES = torch.rand(100, 80) + 1.0  # nowhere zero, so that every zero is a mask


@given(st.text(max_size=5), st.integers(0, 3), st.integers(0, 3))
def test_masks_stay_within_their_sizes(key: str, time_masks: int, frequency_masks: int) -> None:
    sizes = AugmentationConfig(time_masks=time_masks, frequency_masks=frequency_masks, time_mask_share=0.1)
    masked = spec_augment(FEATURES, sizes, key) == 0
    assert int(masked.all(dim=1).sum()) <= 10 * time_masks
    assert int(masked.all(dim=0).sum()) <= sizes.frequency_mask_bins * frequency_masks
    assert not masked.any() or masked.all(dim=1).any() or masked.all(dim=0).any()


def test_the_key_alone_decides_where_and_the_random_state_is_left_alone() -> None:
    sizes = AugmentationConfig()
    state = torch.get_rng_state()
    first = spec_augment(FEATURES, sizes, "3/utterance")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(first, spec_augment(FEATURES, sizes, "3/utterance"))
    assert not torch.equal(first, spec_augment(FEATURES, sizes, "4/utterance"))
