"""A recipe's hash stays what it is in every ledger when later versions add keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.recipe.files import dotted_keys, named_recipe, value_at
from model.recipe.hashing import ADDED_KEYS, NOT_TRAINING, content_hash
from model.strict import read_yaml

TINY = named_recipe("tiny", "corpus")
# Of version 0.3: they count in every hash, or are in NOT_TRAINING. Nothing is ever added here; new keys go into
# ADDED_KEYS.
KEYS_OF_0_3 = {
    "augmentation": "frequency_mask_bins frequency_masks time_mask_frames time_mask_share time_masks",
    "data": "batch_seconds buckets corpus fingerprint longest_scored_seconds longest_seconds seed speeds",
    "decoder": "dropout feed_forward heads layers project_encoder width",
    "decoding": "batch_seconds beam ctc_weight length_penalty mixing tokens_per_second",
    "encoder": "cgmlp cgmlp_kernel channels convolution_padding dropout feed_forward heads layers merge_kernel padding "
    "width",
    "": "init_fingerprint init_from name test_decoding",
    "loss.auxiliary": "placement weights",
    "loss": "ctc_reduction ctc_weight label_smoothing",
    "loss.inter_ctc": "layers weight",
    "optimiser": "accumulate betas clip_norm decay learning_rate warmup warmup_steps weight_decay",
    "tokenizer": "file fingerprint vocabulary",
    "tokenizer.special": "blank bos eos pad unk",
    "training": "average choose compile data_share ema_decay epochs freeze precision seed skips_in_a_row skips_share",
    "validation": "batch_seconds beam ctc_weight length_penalty tokens_per_second",
}


def test_every_key_that_was_added_since_is_listed_with_the_value_it_had_before_it_existed() -> None:
    old = {f"{part}.{key}".lstrip(".") for part, keys in KEYS_OF_0_3.items() for key in keys.split()}
    added = {key for key in dotted_keys(TINY) if key not in old and not key.startswith(NOT_TRAINING)}
    assert old <= set(dotted_keys(TINY))
    assert added == set(ADDED_KEYS), "list it in model/recipe/hashing.py with its default"


@pytest.mark.parametrize("study", ["study_format_1", "study_format_2"])
def test_recipes_that_older_versions_wrote_have_the_hashes_of_their_ledgers(golden: Path, study: str) -> None:
    events = "".join(path.read_text() for path in (golden / study).rglob("*.jsonl"))
    recipes = [read_yaml(path) for path in sorted((golden / study).glob("trials/*/recipe.yaml"))]
    assert len(recipes) > 5
    for recipe in recipes:
        assert f'"{content_hash(recipe)}"' in events.replace(" ", "")
        assert content_hash(recipe | {"name": "other"}) == content_hash(recipe)
        assert content_hash(recipe | {"decoding": recipe["decoding"] | {"beam": 9}}) != content_hash(recipe)


def content(**parts: Any) -> dict[str, Any]:
    """The tiny recipe as JSON, with keys added to its parts."""
    plain = TINY.model_dump(mode="json")
    for part, keys in parts.items():
        plain[part] = plain.get(part, {}) | keys
    return plain


@pytest.mark.parametrize(
    ("parts", "added"),
    [
        ({"training": {"patience": 1}}, {"training.patience": 1}),
        ({"curriculum": {"first": 1, "every": None}}, {"curriculum.first": 1, "curriculum.every": None}),
        ({"loss": {"schedule": {"kind": "constant"}}}, {"loss.schedule.kind": "constant"}),
    ],
)
def test_an_added_key_counts_only_where_it_has_another_value(parts: dict[str, Any], added: dict[str, Any]) -> None:
    assert content_hash(content(**parts), ADDED_KEYS | added) == TINY.hash
    changed = {part: keys | {key: {"kind": "other"} for key in keys} for part, keys in parts.items()}
    assert content_hash(content(**changed), ADDED_KEYS | added) != TINY.hash


def test_what_does_not_count_are_keys_or_parts_of_the_recipe() -> None:
    keys = dotted_keys(TINY)
    assert all(any(key == name or key.startswith(f"{name}.") for key in keys) for name in NOT_TRAINING)


def test_a_key_of_0_3_counts_with_its_default_too() -> None:
    without = content()
    del without["loss"]["label_smoothing"]
    assert value_at(TINY, "loss.label_smoothing") == 0.1
    assert content_hash(without) != TINY.hash
