"""Recipes as files and as dotted keys (`optimiser.learning_rate`): every change is validated."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import read_yaml, unknown_name, validate

NAMED_RECIPES = Path(__file__).parent / "recipes"
# Keys that hold a path, apart from data.corpus.
PATH_KEYS = ("init_from", "tokenizer.file", "custom_model.path", "decoding.lm", "test_decoding.lm")


def with_values(recipe: Recipe, values: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """The recipe with the values of dotted keys replaced; an unknown key or a wrong value is a UserError.

    A value that is a mapping changes the keys that it names and leaves the others. `source` is named in errors.
    """
    content = recipe.model_dump(mode="json")
    for key, value in values.items():
        _set_dotted(content, key, copy.deepcopy(value), source)  # a later key may change a part of it
    return validate(Recipe, content, source)


def value_at(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key; an unknown key is a UserError that names the nearest known one."""
    content: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            raise UserError(f"recipe: unknown key '{key}'; {unknown_name(key, dotted_keys(recipe))}")
        content = content[part]
    return content


def list_paths(recipe: Recipe) -> dict[str, str]:
    """The path of each of PATH_KEYS that the recipe has."""
    present = PATH_KEYS if recipe.test_decoding is not None else [key for key in PATH_KEYS if "test_" not in key]
    return {key: path for key in present if (path := value_at(recipe, key)) is not None}


def dotted_keys(recipe: Recipe) -> list[str]:
    """Every key of the recipe that holds a value (no section), dotted."""
    return _list_keys(recipe.model_dump(mode="json"))


def read_recipe(path: Path) -> Recipe:
    """A recipe file as a Recipe; the paths in it are relative to the file. What is wrong in it is a UserError."""
    recipe = validate(Recipe, read_yaml(path), str(path))
    paths = {"data.corpus": recipe.data.corpus} | list_paths(recipe)
    absolute = {key: str((path.parent / given).resolve()) for key, given in paths.items()}
    return with_values(recipe, absolute, str(path))


def named_recipe(name: str, corpus: str) -> Recipe:
    """The recipe `tiny`, `small` or `base` on a corpus folder; another name is a UserError."""
    path = NAMED_RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in NAMED_RECIPES.glob("*.yaml")]
        raise UserError(f"recipe '{name}' is unknown; {unknown_name(name, known)}")
    content = {"name": name} | read_yaml(path)
    content["data"] = {"corpus": corpus} | content.get("data", {})
    return validate(Recipe, content, str(path))


def _set_dotted(content: dict[str, Any], key: str, value: Any, source: str) -> None:
    known = _list_keys(content)
    *parents, last = key.split(".")
    for part in parents:
        content = content.get(part, {}) if isinstance(content, dict) else {}
    if not isinstance(content, dict) or last not in content:
        raise UserError(f"{source}: unknown key '{key}'; {unknown_name(key, known)}")
    content[last] = _merge(content[last], value)


def _merge(old: Any, new: Any) -> Any:
    """`new`, or where both are mappings `old` with the keys of `new` replaced, at every depth."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}


def _list_keys(content: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        name
        for key, value in content.items()
        for name in (_list_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]
