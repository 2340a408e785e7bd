"""Whether a study file continues the study in a folder, or describes another study under the same name.

What makes trials incomparable must not change: search space, objective, corpus, tokenizer, base recipe. Everything else
may: budget, baselines, sampler, second objective, early stopping, failures, workers, tracking, where it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.hashing import NOT_TRAINING, drop_keys
from model.recipe.recipe import Recipe
from study.config.search_settings import SearchSettings
from study.config.study_file import Objective, StudyFile

TRAININGS = 2  # raised whenever a released version trains another model with the same recipe; 1 until version 0.2
# How points are sampled, not which points there are.
_NOT_THE_SPACE = {"sampler", "seed", "startup_trials", "grid_points", "repeat_seed", "prior"}
# Each path in a recipe, with the hash of the file there.
_PATHS = {
    "init_from": "init_fingerprint",
    "tokenizer.file": "tokenizer.fingerprint",
    "custom_model.path": "custom_model.fingerprint",
}


def refuse_change(folder: Path, before: tuple[StudyFile, Recipe], after: tuple[StudyFile, Recipe]) -> None:
    """A UserError for the first change that would make new trials incomparable with those in the folder."""
    (old, old_base), (study, base) = before, after
    parts = {
        "search space": (_dump_space(old.search), _dump_space(study.search)),
        "objective": (_dump_objective(old.objective), _dump_objective(study.objective)),
        "corpus": ({"fingerprint": old_base.data.fingerprint}, {"fingerprint": base.data.fingerprint}),
        "base recipe": _dump_content(old_base, base),
    }
    for part, (old_part, new_part) in parts.items():
        if old_part != new_part:
            difference = _describe_difference(old_part, new_part)
            raise UserError(
                f"study '{study.name}' in {folder} is in use with another {part} ({difference}); "
                "give the new study another name, or put the old value back"
            )


def refuse_other_trainings(folder: Path, name: str, before: dict[str, Any]) -> None:
    """A UserError where the study's trials were trained by rules that this version does not have any more."""
    if before.get("trainings", 1) == TRAININGS:
        return
    version = before.get("packages", {}).get("decred-study", "of another version")
    raise UserError(
        f"study '{name}' in {folder} was started with decred-study {version}, which trained by other rules (see "
        "CHANGELOG.md), so new trials could not be compared with its own; continue it with that version, or give the "
        "new study another name (status, export and dashboard read the old one)"
    )


def refuse_other_files(folder: Path, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """A UserError where the manifests' hashes of corpus or tokenizer differ: paths may be equal, and files not."""
    old, new = before.get("hashes", {}), after.get("hashes", {})
    for part in ("corpus", "tokenizer"):
        if None not in (old.get(part), new.get(part)) and old[part] != new[part]:
            raise UserError(
                f"study '{name}' in {folder} is in use with another {part} (its content was {old[part]}, is "
                f"{new[part]}); put the old one back, or give the new study another name"
            )


def _dump_objective(objective: Objective) -> dict[str, Any]:
    return objective.model_dump(exclude={"second"})  # by which no trial is chosen


def _dump_space(search: SearchSettings) -> dict[str, Any]:
    return search.model_dump(mode="json", exclude=_NOT_THE_SPACE)


def _dump_content(old: Recipe, new: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """What counts in both trainings, as validated values: a key that an older file lacks has its default."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for path, fingerprint in _PATHS.items():
        _drop_path(before, after, path, fingerprint)
    for content in (before, after):
        del content["data"]["fingerprint"]
    return drop_keys(before, NOT_TRAINING), drop_keys(after, NOT_TRAINING)


def _drop_path(before: dict[str, Any], after: dict[str, Any], path: str, fingerprint: str) -> None:
    """Drop a file's path from both, so that its fingerprint alone is compared.

    A recipe that is not prepared yet has no fingerprint; then the other one's is assumed, or the path compared.
    """
    *parts, path = path.split(".")
    for part in parts:
        before, after = before[part], after[part]
    fingerprint = fingerprint.rpartition(".")[2]
    if before[fingerprint] is None or (before[path] is None) != (after[path] is None):
        return  # both may be None: a module that is installed has a fingerprint and no path
    if after[fingerprint] is None:
        after[fingerprint] = before[fingerprint]
    del before[path], after[path]


def _describe_difference(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> str:
    """The first key that differs, dotted, with both values."""
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            return _describe_difference(old, new, f"{prefix}{key}.")
        return f"{prefix}{key} was {_format_value(old)}, is {_format_value(new)}"
    return ""


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if part is not None}
    return json.dumps(value, ensure_ascii=False)
