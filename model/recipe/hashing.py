"""The hash that identifies a recipe, made so that keys which later versions add change no hash.

A ledger holds the hashes of what was trained. Every key of version 0.1 counts, whatever its value. A key that was added
since counts only where it has another value than what trainings had before it existed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Dotted key -> the value that trainings had before the key existed, as JSON. Whoever adds a key to the recipe adds it
# here (a test names those that are missing); an entry never changes, even if the key's default does.
ADDED_KEYS: dict[str, Any] = {}


def content_hash(content: Mapping[str, Any], added_keys: Mapping[str, Any] = ADDED_KEYS) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON of a recipe, without its name and the corpus folder.

    A path is no content: the same corpus in another folder trains the same model, and `data.fingerprint` identifies
    it. The paths of initial weights and tokenizer are left out once their fingerprints are known. Only keys that are
    in `content` count, so that a recipe file of an older version keeps its hash.
    """
    kept = {key: dict(part) if isinstance(part, Mapping) else part for key, part in content.items()}
    kept.pop("name", None)
    kept["data"].pop("corpus", None)
    if kept.get("init_fingerprint") is not None:
        kept.pop("init_from", None)
    if kept.get("tokenizer", {}).get("fingerprint") is not None:
        kept["tokenizer"].pop("file", None)
    for key, value in added_keys.items():
        kept = _without(kept, key.split("."), value)
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without(content: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The content without the key at `path`, where it has this value; with a part that has no key left, without it."""
    key, *rest = path
    if key not in content:
        return content
    if not rest:
        return {name: part for name, part in content.items() if name != key or part != value}
    part = _without(content[key], rest, value)
    return {name: inner for name, inner in (content | {key: part}).items() if name != key or part}
