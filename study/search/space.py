"""The search space: points, which hold the active parameters alone, to recipes and back, without Optuna."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from model.errors import UserError
from model.recipe.files import dotted_keys, value_at, with_values
from model.recipe.recipe import Recipe
from study.config.search_settings import SEED, SearchSettings
from study.search.classifiers import PLACEMENT_KEY, WEIGHTS_KEY, ClassifierSpace
from study.search.grid import GridSource
from study.search.quantity import (
    OutsideError,
    Point,
    Quantity,
    Value,
    ValueSource,
    check_combinations,
    make_quantity,
    round_value,
)

MAX_GRID_POINTS = 10_000


class Space:
    """What a study searches around its base recipe; a UserError where no trial could run some of it."""

    def __init__(self, search: SearchSettings, base: Recipe) -> None:
        self.base = base
        self._quantities = _make_quantities(search, base)
        self._classifiers = ClassifierSpace(search.auxiliary, base) if search.auxiliary else None
        check_combinations(self._quantities, base, self._classifiers.list_extremes() if self._classifiers else [{}])
        self._keys = {quantity.key for quantity in self._quantities}
        self._keys |= {PLACEMENT_KEY, WEIGHTS_KEY} if self._classifiers else set()

    def suggest(self, source: ValueSource) -> Point:
        """A point with every active parameter drawn from `source`, and no other."""
        point: Point = {quantity.name: quantity.draw(source) for quantity in self._quantities}
        return point | (self._classifiers.suggest(source) if self._classifiers else {})

    def decode(self, point: Point) -> Recipe:
        """The base recipe with the point's values."""
        return with_values(self.base, self._decode_keys(point), "search")

    def _decode_keys(self, point: Point) -> dict[str, Any]:
        """The recipe's keys that the point sets, with their values."""
        values: dict[str, Any] = {quantity.key: quantity.decode(point[quantity.name]) for quantity in self._quantities}
        return values | (self._classifiers.decode(point) if self._classifiers else {})

    def encode_or_none(self, recipe: Recipe) -> Point | None:
        """The point that decodes to `recipe`; None where `encode` raises."""
        try:
            return self.encode(recipe)
        except OutsideError:
            return None

    def encode(self, recipe: Recipe) -> Point:
        """The point that decodes to `recipe`; OutsideError with the reason where it lies outside the space, or differs
        from the base recipe in a key that is not searched."""
        content, base = _flatten(recipe), _flatten(self.base)
        not_compared = self._keys | _list_path_keys(recipe)
        for key in base:
            if key not in not_compared and content.get(key) != base[key]:
                raise OutsideError(f"{key} is {content.get(key)}, but {base[key]} in this study's base recipe")
        point: Point = {quantity.name: quantity.encode(content[quantity.key]) for quantity in self._quantities}
        return point | (self._classifiers.encode(recipe) if self._classifiers else {})

    def approximate(self, recipe: Recipe) -> Point:
        """The point that is nearest to a recipe of any model, see `prior`."""
        content, base = _flatten(recipe), _flatten(self.base)
        point: Point = {
            quantity.name: quantity.approximate(content.get(quantity.key), base[quantity.key])
            for quantity in self._quantities
        }
        return point | (self._classifiers.approximate(recipe) if self._classifiers else {})

    def draw_classifiers_near(self, point: Point, generator: random.Random) -> Point:
        """The part of a point that describes its classifiers, drawn at random near that of `point`."""
        return self._classifiers.draw_near(point, generator) if self._classifiers else {}

    def with_new_seed(self, recipe: Recipe, tried: set[tuple[str, str]]) -> Recipe:
        """The recipe with the next training seed whose hash and decoding's hash are not among those `tried`.

        It is returned as it is where its own are not among them, and where the study searches the seed.
        """

        def was_tried(recipe: Recipe) -> bool:  # until version 0.3 no decoding was recorded
            return (recipe.hash, decoding) in tried or (recipe.hash, "") in tried

        decoding = recipe.decoding.hash
        if SEED in self._keys or not was_tried(recipe):
            return recipe
        seed = self.base.training.seed
        while was_tried(repeat := with_values(recipe, {SEED: seed})):
            seed += 1
        return repeat

    def with_base_seed(self, recipe: Recipe) -> Recipe:
        """The recipe with the base recipe's training seed; as it is where the study searches the seed."""
        return recipe if SEED in self._keys else with_values(recipe, {SEED: self.base.training.seed})

    def list_grid(self, points: int) -> list[Point]:
        """Every combination, with `points` values from each range; only active parameters, as in `suggest`."""
        grid: list[Point] = []
        indices: list[int] | None = []
        while indices is not None:
            if len(grid) == MAX_GRID_POINTS:
                raise UserError(
                    f"search.grid_points is {points}, which makes more than {MAX_GRID_POINTS} grid points; "
                    "lower it, narrow the space or use the sampler tpe"
                )
            source = GridSource(points, indices)
            grid.append(self.suggest(source))
            indices = source.next_indices()
        return grid

    def describe_recipe(self, recipe: Recipe) -> dict[str, Value]:
        """The searched quantities of any recipe, rounded for tables, and its seed where it is not the base recipe's."""
        values = self._describe(_flatten(recipe))
        if SEED not in self._keys and recipe.training.seed != self.base.training.seed:
            values[SEED] = recipe.training.seed
        return values

    def describe_point(self, point: Point) -> dict[str, Value]:
        """The searched quantities of a point, rounded for tables; it need not decode to a valid recipe."""
        return self._describe(self._decode_keys(point))

    def _describe(self, content: Mapping[str, Any]) -> dict[str, Value]:
        values: dict[str, Value] = {quantity.name: round_value(content[quantity.key]) for quantity in self._quantities}
        return values | (self._classifiers.describe(content) if self._classifiers else {})


def _make_quantities(search: SearchSettings, base: Recipe) -> list[Quantity]:
    quantities = [make_quantity(key, key, dimension, base) for key, dimension in search.recipe.items()]
    if search.ctc_weight is not None:
        quantities.insert(0, make_quantity("ctc_weight", "loss.ctc_weight", search.ctc_weight, base))
    return quantities


def _flatten(recipe: Recipe) -> dict[str, Any]:
    return {key: value_at(recipe, key) for key in dotted_keys(recipe)}


def _list_path_keys(recipe: Recipe) -> set[str]:
    """Keys that hold names and paths: they are no content, as in the recipe's hash."""
    keys = {"name", "data.corpus"}
    if recipe.init_fingerprint is not None:
        keys.add("init_from")
    if recipe.tokenizer.fingerprint is not None:
        keys.add("tokenizer.file")
    if recipe.custom_model.fingerprint is not None:
        keys.add("custom_model.path")
    if recipe.decoding.lm_fingerprint is not None:
        keys.add("decoding.lm")
    return keys
