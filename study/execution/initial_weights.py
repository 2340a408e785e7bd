"""Whether every trial of a study could start from the weights that its base recipe names, before the first one does."""

from __future__ import annotations

import itertools

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.search_settings import Dimension, SearchSettings

MOST_FORMS = 64  # of models that are compared with the weights
_PARTS = ("initialisation", "encoder", "decoder", "tokenizer", "custom_model")  # of the recipe: what a model is made of
_NO_SIZE = ("dropout", "layer_drop")


def check_search(base: Recipe, search: SearchSettings) -> None:
    """A UserError where the base recipe, or it with extreme values of what is searched, cannot start from `init_from`.

    Their tokenizers may not be there yet: which rows are taken by piece is not looked at.
    """
    if base.init_from is None:
        return
    from model.weights.initial import check_initial_weights, find_initial_weights  # torch takes seconds to import

    found = find_initial_weights(base)
    if found is None:
        return
    searched = {key: _list_extremes(search.recipe[key]) for key in search.recipe if _makes_the_model(key)}
    for values in itertools.islice(itertools.product(*searched.values()), MOST_FORMS):
        form = dict(zip(searched, values, strict=True))
        try:
            check_initial_weights(with_values(base, form), found)
        except UserError as error:
            if not form:
                raise
            combination = ", ".join(f"{key} {value}" for key, value in form.items())
            raise UserError(f"search can meet {combination}, but {error}") from None


def _makes_the_model(key: str) -> bool:
    return key.split(".")[0] in _PARTS and key.split(".")[-1] not in _NO_SIZE


def _list_extremes(dimension: Dimension) -> list[object]:
    """The ends of a range, all values of a choice."""
    return list(dimension.choice) if dimension.choice is not None else list(dimension.range)
