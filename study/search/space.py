"""The search space: points (flat, only what is active) to recipes and back. Knows neither Optuna nor Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.errors import UserError
from model.recipe.files import dotted_keys, value_at, with_values
from model.recipe.recipe import Recipe
from study.config.search_settings import SearchSettings
from study.search.classifiers import PLACEMENT_KEY, WEIGHTS_KEY, Classifiers
from study.search.grid import GridSource
from study.search.quantity import OutsideError, Point, Quantity, Source, Value, check_together, quantity, rounded

MOST_GRID_POINTS = 10_000
SEED = "training.seed"


class Space:
    """What a study searches, around its base recipe."""

    def __init__(self, search: SearchSettings, base: Recipe) -> None:
        self.base = base
        self._quantities = _quantities(search, base)
        self._classifiers = Classifiers(search.auxiliary, base) if search.auxiliary else None
        check_together(self._quantities, base, self._classifiers.extremes() if self._classifiers else [{}])
        self._keys = {each.key for each in self._quantities}
        self._keys |= {PLACEMENT_KEY, WEIGHTS_KEY} if self._classifiers else set()

    def suggest(self, source: Source) -> Point:
        """A point with every active parameter drawn from `source`, and no other."""
        point: Point = {each.name: each.draw(source) for each in self._quantities}
        return point | (self._classifiers.suggest(source) if self._classifiers else {})

    def recipe(self, point: Point) -> Recipe:
        """The base recipe with the point's values."""
        return with_values(self.base, self._settings(point), "search")

    def _settings(self, point: Point) -> dict[str, Any]:
        """The recipe's keys that the point sets."""
        values: dict[str, Any] = {each.key: each.decoded(point[each.name]) for each in self._quantities}
        return values | (self._classifiers.settings(point) if self._classifiers else {})

    def point(self, recipe: Recipe) -> Point | None:
        """The point that gives `recipe`; None when it lies outside, or differs from the base elsewhere."""
        try:
            return self.found(recipe)
        except OutsideError:
            return None

    def found(self, recipe: Recipe) -> Point:
        """The point that gives `recipe`; OutsideError, which says why, when there is none."""
        content, base = _flat(recipe), _flat(self.base)
        free = self._keys | _places(recipe)
        for key in base:
            if key not in free and content.get(key) != base[key]:
                raise OutsideError(f"{key} is {content.get(key)}, but {base[key]} in this study's base recipe")
        point: Point = {each.name: each.found(content[each.key]) for each in self._quantities}
        return point | (self._classifiers.found(recipe) if self._classifiers else {})

    def reseeded(self, recipe: Recipe, tried: set[str]) -> Recipe:
        """The recipe; where its hash is among those `tried`, with the next training seed that is not.

        A study that searches the seed gets it back as it is.
        """
        if recipe.hash not in tried or SEED in self._keys:
            return recipe
        seed = self.base.training.seed
        while (reseeded := with_values(recipe, {SEED: seed})).hash in tried:
            seed += 1
        return reseeded

    def with_base_seed(self, recipe: Recipe) -> Recipe:
        """A repeat as the recipe that it repeats; as it is where the study searches the seed."""
        return recipe if SEED in self._keys else with_values(recipe, {SEED: self.base.training.seed})

    def grid(self, points: int) -> list[Point]:
        """Every combination, with `points` values from each range; conditional like the space itself."""
        grid: list[Point] = []
        odometer: list[int] | None = []
        while odometer is not None:
            if len(grid) == MOST_GRID_POINTS:
                raise UserError(
                    f"search.grid_points is {points}, which makes more than {MOST_GRID_POINTS} grid points; "
                    "lower it, narrow the space or use the sampler tpe"
                )
            source = GridSource(points, odometer)
            grid.append(self.suggest(source))
            odometer = source.next()
        return grid

    def values(self, recipe: Recipe) -> dict[str, Value]:
        """The searched quantities of any recipe in human terms, and a seed that is not the base recipe's."""
        values = self._human(_flat(recipe))
        if SEED not in self._keys and recipe.training.seed != self.base.training.seed:
            values[SEED] = recipe.training.seed
        return values

    def values_at(self, point: Point) -> dict[str, Value]:
        """The same of a point, which need not make a recipe."""
        return self._human(self._settings(point))

    def _human(self, content: Mapping[str, Any]) -> dict[str, Value]:
        values: dict[str, Value] = {each.name: rounded(content[each.key]) for each in self._quantities}
        return values | (self._classifiers.values(content) if self._classifiers else {})


def _quantities(search: SearchSettings, base: Recipe) -> list[Quantity]:
    quantities = [quantity(key, key, dimension, base) for key, dimension in search.recipe.items()]
    if search.ctc_weight is not None:
        quantities.insert(0, quantity("ctc_weight", "loss.ctc_weight", search.ctc_weight, base))
    return quantities


def _flat(recipe: Recipe) -> dict[str, Any]:
    return {key: value_at(recipe, key) for key in dotted_keys(recipe)}


def _places(recipe: Recipe) -> set[str]:
    """Keys that say how things are called or where they lie: no content, as in the recipe's hash."""
    places = {"name", "data.corpus"}
    if recipe.init_fingerprint is not None:
        places.add("init_from")
    if recipe.tokenizer.fingerprint is not None:
        places.add("tokenizer.file")
    return places
