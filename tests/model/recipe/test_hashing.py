"""A recipe's hash stays what it is in every ledger when later versions add keys."""

from __future__ import annotations

from typing import Any

import pytest

from model.recipe.files import dotted_keys, named_recipe, value_at
from model.recipe.hashing import ADDED_KEYS, content_hash

TINY = named_recipe("tiny", "corpus")
# Of version 0.1: they count in every hash. Nothing is ever added here; new keys go into ADDED_KEYS.
KEYS_OF_0_1 = set(
    """
    augmentation.frequency_mask_bins augmentation.frequency_masks augmentation.time_mask_frames
    augmentation.time_mask_share augmentation.time_masks data.batch_seconds data.buckets data.corpus data.fingerprint
    data.longest_seconds data.seed data.speeds decoder.dropout decoder.feed_forward decoder.heads decoder.layers
    decoder.project_encoder decoder.width decoding.batch_seconds decoding.beam decoding.ctc_weight
    decoding.length_penalty decoding.mixing encoder.cgmlp encoder.cgmlp_kernel encoder.channels
    encoder.convolution_padding encoder.dropout encoder.feed_forward encoder.heads encoder.layers encoder.merge_kernel
    encoder.padding encoder.width init_fingerprint init_from loss.auxiliary.placement loss.auxiliary.weights
    loss.ctc_reduction loss.ctc_weight loss.inter_ctc.layers loss.inter_ctc.weight loss.label_smoothing name
    optimiser.accumulate optimiser.betas optimiser.clip_norm optimiser.decay optimiser.learning_rate
    optimiser.warmup_steps optimiser.weight_decay tokenizer.file tokenizer.fingerprint tokenizer.special.blank
    tokenizer.special.bos tokenizer.special.eos tokenizer.special.pad tokenizer.special.unk tokenizer.vocabulary
    training.compile training.epochs training.freeze training.precision training.seed
    """.split()
)


def test_every_key_that_was_added_since_is_listed_with_the_value_it_had_before_it_existed() -> None:
    added = set(dotted_keys(TINY)) - KEYS_OF_0_1
    assert added == set(ADDED_KEYS), "list it in model/recipe/hashing.py with its default"


def content(**parts: Any) -> dict[str, Any]:
    """The tiny recipe as JSON, with keys added to its parts."""
    plain = TINY.model_dump(mode="json")
    for part, keys in parts.items():
        plain[part] = plain.get(part, {}) | keys
    return plain


@pytest.mark.parametrize(
    ("parts", "added"),
    [
        ({"training": {"average": 1}}, {"training.average": 1}),
        ({"validation": {"beam": 1, "every": None}}, {"validation.beam": 1, "validation.every": None}),
        ({"loss": {"schedule": {"kind": "constant"}}}, {"loss.schedule.kind": "constant"}),
    ],
)
def test_an_added_key_counts_only_where_it_has_another_value(parts: dict[str, Any], added: dict[str, Any]) -> None:
    assert content_hash(content(**parts), added) == TINY.hash
    changed = {part: keys | dict.fromkeys(keys, {"kind": "other"}) for part, keys in parts.items()}
    assert content_hash(content(**changed), added) != TINY.hash


def test_a_key_of_0_1_counts_with_its_default_too() -> None:
    without = content()
    del without["loss"]["label_smoothing"]
    assert value_at(TINY, "loss.label_smoothing") == 0.1
    assert content_hash(without) != TINY.hash
