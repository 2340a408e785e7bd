"""The decoding that was found for a run's weights, in decoding.json of its folder: all that was tried, and the best."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.decoding import DecodingConfig
from model.recipe.recipe import Recipe
from model.strict import write_atomically

DECODING_FILE = "decoding.json"


@dataclass(frozen=True)
class FoundDecoding:
    """What a search found: `decoding` is the best of `tried`, each a decoding with its stage, each dev set's word edits
    [S, D, I, N] and its seconds. `stages` has the best decoding until each stage's end and its error rates.

    `search` identifies what was asked for: the same recipe, start and settings need no other search. The search took
    `seconds`, a `share` of the training's.
    """

    search: dict[str, Any]
    decoding: dict[str, Any]
    tried: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    seconds: float
    share: float

    def answers(self, recipe: Recipe) -> bool:
        """Whether it is what the recipe asks for, so that nothing need be searched."""
        return self.search == identify_search(recipe)


def identify_search(recipe: Recipe) -> dict[str, Any]:
    """What decides the outcome of a recipe's search, but for the time that it has."""
    settings = recipe.decoding_search.model_dump(mode="json")
    for key in ("mixing", "lm_weight", "ilm_weight"):  # earlier searches did not know these keys
        if not settings[key]:
            del settings[key]
    search = {"recipe_hash": recipe.hash, "start_hash": recipe.decoding.hash, "settings": settings}
    tries_models = bool(settings.keys() & {"lm_weight", "ilm_weight"})
    return search | ({"language_models": _identify_models(recipe)} if tries_models else {})


def _identify_models(recipe: Recipe) -> dict[str, Any]:
    """What the hash of a decoding that gives language models no weight leaves out."""
    decoding = recipe.decoding
    return {"lm": decoding.lm_fingerprint or decoding.lm, "ilm_estimator": decoding.ilm_estimator}


def describe_language_models(decoding: Mapping[str, Any]) -> str:
    """The weights of language models in a decoding, in words; `none` where there are none."""
    weights = {"LM": decoding.get("lm_weight", 0.0), "ILM": -decoding.get("ilm_weight", 0.0)}
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight) or "none"


def save_found(folder: Path, found: FoundDecoding) -> None:
    """Write it into a run's folder."""
    write_atomically(folder / DECODING_FILE, json.dumps(asdict(found), indent=1) + "\n")


def read_found(folder: Path) -> FoundDecoding | None:
    """What was found last for the run in a folder; None where nothing was searched yet."""
    path = folder / DECODING_FILE
    if not path.is_file():
        return None
    try:
        found = FoundDecoding(**json.loads(path.read_text(encoding="utf-8")))
        DecodingConfig.model_validate(found.decoding)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({' '.join(str(error).split())}); restore it, or remove it") from None
    return found


def with_found_decoding(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of the run in a folder, decoded as was found for it."""
    found = read_found(folder)
    if found is None or found.search.get("recipe_hash") != recipe.hash:
        return recipe
    return recipe.model_copy(update={"decoding": DecodingConfig.model_validate(found.decoding)})
