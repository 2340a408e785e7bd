"""A recipe's hash stays what it is in every ledger when later versions add keys."""

from __future__ import annotations

from typing import Any

import pytest

from model.recipe.files import dotted_keys, named_recipe, value_at
from model.recipe.hashing import ADDED_KEYS, content_hash

TINY = named_recipe("tiny", "corpus")
# Of version 0.1: they count in every hash. Nothing is ever added here; new keys go into ADDED_KEYS.
KEYS_OF_0_1 = {
    "augmentation": "frequency_mask_bins frequency_masks time_mask_frames time_mask_share time_masks",
    "data": "batch_seconds buckets corpus fingerprint longest_seconds seed speeds",
    "decoder": "dropout feed_forward heads layers project_encoder width",
    "decoding": "batch_seconds beam ctc_weight length_penalty mixing",
    "encoder": "cgmlp cgmlp_kernel channels convolution_padding dropout feed_forward heads layers merge_kernel padding "
    "width",
    "": "init_fingerprint init_from name",
    "loss.auxiliary": "placement weights",
    "loss": "ctc_reduction ctc_weight label_smoothing",
    "loss.inter_ctc": "layers weight",
    "optimiser": "accumulate betas clip_norm decay learning_rate warmup_steps weight_decay",
    "tokenizer": "file fingerprint vocabulary",
    "tokenizer.special": "blank bos eos pad unk",
    "training": "compile epochs freeze precision seed",
}


def test_every_key_that_was_added_since_is_listed_with_the_value_it_had_before_it_existed() -> None:
    old = {f"{part}.{key}".lstrip(".") for part, keys in KEYS_OF_0_1.items() for key in keys.split()}
    added = set(dotted_keys(TINY)) - old
    assert old <= set(dotted_keys(TINY))
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
    changed = {part: keys | {key: {"kind": "other"} for key in keys} for part, keys in parts.items()}
    assert content_hash(content(**changed), added) != TINY.hash


def test_a_key_of_0_1_counts_with_its_default_too() -> None:
    without = content()
    del without["loss"]["label_smoothing"]
    assert value_at(TINY, "loss.label_smoothing") == 0.1
    assert content_hash(without) != TINY.hash
