"""The hash that identifies a training, made so that keys which later versions add change no hash.

A ledger holds the hashes of what was trained. What changes no weight does not count: how the model is decoded in the
end, and how the work is divided or compiled. Every other key of version 0.3 counts, whatever its value. A key that was
added since counts only where it has another value than what trainings had before it existed.

Recipes of versions before 0.3 have no `validation`, and are hashed as these versions did: with all keys.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Dotted key -> the value that trainings had before the key existed, as JSON. Whoever adds a key to the recipe adds it
# here (a test names those that are missing); an entry never changes, even if the key's default does.
ADDED_KEYS: dict[str, Any] = {
    "training.epoch_steps": None,
    "training.epoch_share": None,
    "data.label_buckets": 1,
    "data.temperature": 1.0,
    "augmentation.noise_share": 0.0,
    "augmentation.noise_snr": [10.0, 40.0],
    "augmentation.reverberation_share": 0.0,
    "augmentation.reverberation_seconds": [0.1, 0.6],
    "augmentation.gain_share": 0.0,
    "augmentation.gain_db": [0.0, 12.0],
    "tokenizer.kind": "unigram",
    "tokenizer.byte_fallback": False,
    "tokenizer.sentences": None,
    "optimiser.floor": 0.0,
    "optimiser.plateau_factor": 0.5,
    "optimiser.plateau_patience": 3,
    "optimiser.plateau_threshold": 0.0,
    "optimiser.rates.encoder": 1.0,
    "optimiser.rates.decoder": 1.0,
    "optimiser.rates.classifiers": 1.0,
    "optimiser.rates.ctc": 1.0,
    "optimiser.rates.patterns": [],
    "encoder.layer_drop": 0.0,
    "decoder.layer_drop": 0.0,
    "loss.schedule.shape": "linear",
    "loss.schedule.start": 0.0,
    "loss.schedule.stop": 1.0,
    "loss.schedule.auxiliary": 1.0,
    "loss.schedule.ctc_weight": None,
    "custom_model.factory": None,
    "custom_model.path": None,
    "custom_model.settings": None,
    "custom_model.fingerprint": None,
    "initialisation.take": ["*"],
    "initialisation.leave": [],
    "initialisation.rename": [],
    "initialisation.unfit": "refuse",
    "initialisation.vocabulary": "by_id",
    "validation.encoder_precision": "fp32",
    "validation.utterances": None,
}
NOT_TRAINING = (
    *("name", "data.corpus", "data.longest_scored_seconds", "decoding", "decoding_search", "test_decoding"),
    *("optimiser.accumulate", "training.compile", "validation.batch_seconds"),
    *("data.readers", "validation.ilm_estimators"),
)
_NOT_TRAINING_BEFORE_0_3 = ("name", "data.corpus")


def content_hash(content: Mapping[str, Any], added_keys: Mapping[str, Any] = ADDED_KEYS) -> str:
    """`hash_json` of what counts in a recipe.

    A path is no content: the same corpus in another folder trains the same model, and `data.fingerprint` identifies
    it. The paths of initial weights, tokenizer and a network of the user's own are left out once their fingerprints
    are known. Only keys that are in `content` count, so that a recipe file of an older version keeps its hash.
    """
    kept = drop_keys(content, NOT_TRAINING if "validation" in content else _NOT_TRAINING_BEFORE_0_3)
    if kept.get("init_fingerprint") is not None:
        kept = _without(kept, ["init_from"])
    if kept.get("tokenizer", {}).get("fingerprint") is not None:
        kept = _without(kept, ["tokenizer", "file"])
    if kept.get("custom_model", {}).get("fingerprint") is not None:
        kept = _without(kept, ["custom_model", "path"])
    for key, value in added_keys.items():
        kept = _without(kept, key.split("."), functools.partial(operator.eq, value))
    return hash_json(kept)


def drop_keys(content: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A recipe without dotted keys; a part that is left empty by that is dropped too."""
    kept = dict(content)
    for key in keys:
        kept = _without(kept, key.split("."))
    return kept


def hash_json(content: Any) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without(content: dict[str, Any], path: list[str], drops: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The content without the key at `path`, where `drops` agrees to its value; and without a part left empty by it."""
    key, *rest = path
    if key not in content:
        return content
    if not rest:
        keep = drops is not None and not drops(content[key])
        return {name: part for name, part in content.items() if name != key or keep}
    part = _without(content[key], rest, drops)
    return {name: inner for name, inner in (content | {key: part}).items() if name != key or part}
