"""Features and tokenizers of every form that a study searches, made before its first trial.

Otherwise each rank of the first trial with a new form would make it, all at the same time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.search_settings import Dimension, SearchSettings

# Keys of the recipe that features or tokenizers depend on.
KEYS = ("data.speeds", *(f"tokenizer.{key}" for key in ("vocabulary", "kind", "byte_fallback", "sentences")))
MOST_FORMS = 64  # of one key; a wide range of vocabularies is made as trials draw them


def prepare_all(base: Recipe, search: SearchSettings, prepare: Callable[[Recipe], Recipe]) -> Recipe:
    """Prepare the base recipe and every form of it that the search may draw; the prepared base recipe."""
    prepared = prepare(base)
    for values in list_forms(search):
        prepare(with_values(prepared, values))
    return prepared


def list_forms(search: SearchSettings) -> Iterator[dict[str, object]]:
    """Values of the searched `KEYS` in all combinations; none where no such key is searched."""
    values = {key: _list_values(search.recipe[key]) for key in KEYS if key in search.recipe}
    values = {key: listed for key, listed in values.items() if listed}
    for combination in itertools.product(*values.values()) if values else ():
        yield dict(zip(values, combination, strict=True))


def _list_values(dimension: Dimension) -> list[object]:
    if dimension.choice is not None:
        return list(dimension.choice)
    if dimension.integer is None:
        return []
    low, high = dimension.integer
    return list(range(low, high + 1)) if high - low < MOST_FORMS else []
