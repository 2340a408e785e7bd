"""Recipes as files and as dotted keys: reading, naming and changing them, validated every time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import read_yaml, unknown_name, validate

NAMED_RECIPES = Path(__file__).parent / "recipes"
PLACES = ("init_from", "tokenizer.file")  # keys that name a file or folder, beside the corpus


def with_values(recipe: Recipe, values: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """The recipe with dotted keys (`optimiser.learning_rate`) replaced and everything validated again."""
    content = recipe.model_dump(mode="json")
    for key, value in values.items():
        _set_dotted(content, key, copy.deepcopy(value), source)  # a later key may reach into it
    return validate(Recipe, content, source)


def value_at(recipe: Recipe, key: str) -> Any:
    """The value behind a dotted key; an unknown key is a UserError with the nearest known one."""
    content: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            raise UserError(f"recipe: unknown key '{key}'; {unknown_name(key, dotted_keys(recipe))}")
        content = content[part]
    return content


def dotted_keys(recipe: Recipe) -> list[str]:
    """Every key of the recipe that holds a value, dotted."""
    return _dotted(recipe.model_dump(mode="json"))


def read_recipe(path: Path) -> Recipe:
    """A recipe file; the corpus, the initial weights and the tokenizer that it names are looked up beside the file."""
    recipe = validate(Recipe, read_yaml(path), str(path))
    places = {key: value_at(recipe, key) for key in ("data.corpus", *PLACES)}
    absolute = {key: str((path.parent / place).resolve()) for key, place in places.items() if place is not None}
    return with_values(recipe, absolute, str(path))


def named_recipe(name: str, corpus: str) -> Recipe:
    """The recipe `tiny`, `small` or `base` on a corpus."""
    path = NAMED_RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in NAMED_RECIPES.glob("*.yaml")]
        raise UserError(f"recipe '{name}' is unknown; {unknown_name(name, known)}")
    return validate(
        Recipe, {"name": name, "data": {"corpus": corpus}} | _merged_data(read_yaml(path), corpus), str(path)
    )


def _merged_data(content: dict[str, Any], corpus: str) -> dict[str, Any]:
    return content | {"data": {"corpus": corpus} | content.get("data", {})}


def _set_dotted(content: dict[str, Any], key: str, value: Any, source: str) -> None:
    known = _dotted(content)
    *parents, last = key.split(".")
    for part in parents:
        content = content.get(part, {}) if isinstance(content, dict) else {}
    if not isinstance(content, dict) or last not in content:
        raise UserError(f"{source}: unknown key '{key}'; {unknown_name(key, known)}")
    content[last] = _merged(content[last], value)


def _merged(old: Any, new: Any) -> Any:
    """A mapping changes the keys that it names and leaves the others as they are."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def _dotted(content: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        name
        for key, value in content.items()
        for name in (_dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]
