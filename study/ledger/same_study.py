"""Whether a study file goes on with the study in a folder, or is another one under its name.

What makes trials incomparable may not change: search space, objective, corpus, tokenizer, base recipe. Everything else
may: budget, baselines, sampler, early stopping, failures, workers, tracking, where it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.search_settings import SearchSettings
from study.config.study_file import StudyFile

# How points are found, not which there are.
_NOT_THE_SPACE = {"sampler", "seed", "startup_trials", "grid_points", "repeat_seed"}
_PLACES = {"init_from": "init_fingerprint", "tokenizer.file": "tokenizer.fingerprint"}  # and the hash of what is there


def refuse_change(folder: Path, was: tuple[StudyFile, Recipe], now: tuple[StudyFile, Recipe]) -> None:
    """A UserError for the first part that makes the new trials incomparable with those in the folder."""
    (old, old_base), (study, base) = was, now
    parts = {
        "search space": (_space(old.search), _space(study.search)),
        "objective": (old.objective.model_dump(), study.objective.model_dump()),
        "corpus": ({"fingerprint": old_base.data.fingerprint}, {"fingerprint": base.data.fingerprint}),
        "base recipe": _contents(old_base, base),
    }
    for part, (before, after) in parts.items():
        if before != after:
            raise UserError(
                f"study '{study.name}' in {folder} is in use with another {part} ({_difference(before, after)}); "
                "give the new study another name, or put the old value back"
            )


def refuse_other_files(folder: Path, name: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    """A UserError where the manifests' hashes of corpus or tokenizer differ: values may be equal, and files not."""
    before, after = was.get("hashes", {}), now.get("hashes", {})
    for part in ("corpus", "tokenizer"):
        if None not in (before.get(part), after.get(part)) and before[part] != after[part]:
            raise UserError(
                f"study '{name}' in {folder} is in use with another {part} (its content was {before[part]}, is "
                f"{after[part]}); put the old one back, or give the new study another name"
            )


def _space(search: SearchSettings) -> dict[str, Any]:
    return search.model_dump(mode="json", exclude=_NOT_THE_SPACE)


def _contents(was: Recipe, now: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both recipes without names and places; values, so that where an older file lacks a key, its default counts."""
    before, after = was.model_dump(mode="json"), now.model_dump(mode="json")
    for place, fingerprint in _PLACES.items():
        _forget_place(before, after, place, fingerprint)
    for content in (before, after):
        del content["name"], content["data"]["corpus"], content["data"]["fingerprint"]
    return before, after


def _forget_place(before: dict[str, Any], after: dict[str, Any], place: str, fingerprint: str) -> None:
    """Files are told apart by their content, once it is known; before that, what is to be prepared is not known yet."""
    *path, place = place.split(".")
    for part in path:
        before, after = before[part], after[part]
    fingerprint = fingerprint.rpartition(".")[2]
    if before[fingerprint] is None or None in (before[place], after[place]):
        return
    if after[fingerprint] is None:
        after[fingerprint] = before[fingerprint]
    del before[place], after[place]


def _difference(was: dict[str, Any], now: dict[str, Any], place: str = "") -> str:
    """The first keys that differ, dotted, with both values."""
    for key in [*was, *(key for key in now if key not in was)]:
        old, new = was.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            return _difference(old, new, f"{place}{key}.")
        return f"{place}{key} was {_brief(old)}, is {_brief(new)}"
    return ""


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if each is not None}
    return json.dumps(value, ensure_ascii=False)
