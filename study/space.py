"""The search space: points (flat, only what is active) to recipes and back. Knows neither Optuna nor Ray."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from model.errors import UserError
from model.recipe import Recipe
from model.recipe_files import dotted_keys, value_at, with_values
from study.quantity import Point, Quantity, Source, Value, check_together, clamped, quantity
from study.study_file import AuxiliarySearch, Search

MOST_PLACEMENTS = 500  # subsets of one size; a sampler learns nothing about a category that it meets once
MOST_GRID_POINTS = 10_000
LEAST_SHARE, MOST_SHARE = 1e-3, 1.0 - 1e-3  # of a stick: keeps every weight above 0

COUNT, FINAL_WEIGHT, SHARE = "auxiliary.count", "auxiliary.final_weight", "auxiliary.share"
PLACEMENT_KEY, WEIGHTS_KEY = "loss.auxiliary.placement", "loss.auxiliary.weights"


class Space:
    """What a study searches, around its base recipe."""

    def __init__(self, search: Search, base: Recipe) -> None:
        self.base = base
        self._quantities = _quantities(search, base)
        self._auxiliary = search.auxiliary
        self._placements = _placements(search.auxiliary, base) if search.auxiliary else {}
        deepest = [placements[-1] for placements in self._placements.values()][-1:]
        classifiers = [_classifiers("", 1.0, []) if search.auxiliary else {}]
        classifiers += [_classifiers(text, 0.5, [0.5] * text.count(",")) for text in deepest]
        check_together(self._quantities, base, classifiers)

    def suggest(self, source: Source) -> Point:
        """A point with every active parameter drawn from `source`, and no other."""
        point: Point = {each.name: each.draw(source) for each in self._quantities}
        if self._auxiliary:
            point |= self._suggest_auxiliary(self._auxiliary, source)
        return point

    def _suggest_auxiliary(self, auxiliary: AuxiliarySearch, source: Source) -> Point:
        count = source.integer(COUNT, *auxiliary.count)
        point: Point = {COUNT: count}
        if count:
            point[_placement(count)] = source.choice(_placement(count), self._placements[count])
            point[FINAL_WEIGHT] = source.uniform(FINAL_WEIGHT, *auxiliary.final_weight, log=False)
            point |= {name: source.uniform(name, LEAST_SHARE, MOST_SHARE, log=False) for name in _shares(count)}
        return point

    def recipe(self, point: Point) -> Recipe:
        """The base recipe with the point's values."""
        return with_values(self.base, self._settings(point), "search")

    def _settings(self, point: Point) -> dict[str, Any]:
        """The recipe's keys that the point sets."""
        values: dict[str, Any] = {each.key: each.decoded(point[each.name]) for each in self._quantities}
        if self._auxiliary and not (count := int(point[COUNT])):
            values |= _classifiers("", 1.0, [])
        elif self._auxiliary:
            shares = [float(point[name]) for name in _shares(count)]
            values |= _classifiers(str(point[_placement(count)]), float(point[FINAL_WEIGHT]), shares)
        return values

    def point(self, recipe: Recipe) -> Point | None:
        """The point that gives `recipe`; None when it lies outside, or differs from the base elsewhere."""
        content, base = _flat(recipe), _flat(self.base)
        searched = {each.key for each in self._quantities} | {"name"}
        searched |= {PLACEMENT_KEY, WEIGHTS_KEY} if self._auxiliary else set()
        if any(content[key] != base[key] for key in base if key not in searched):
            return None
        point: Point = {}
        for each in self._quantities:
            value = each.found(content[each.key])
            if value is None:
                return None
            point[each.name] = value
        auxiliary = self._auxiliary_point(self._auxiliary, recipe) if self._auxiliary else {}
        return None if auxiliary is None else point | auxiliary

    def _auxiliary_point(self, auxiliary: AuxiliarySearch, recipe: Recipe) -> Point | None:
        placement, weights = recipe.loss.auxiliary.placement, recipe.loss.auxiliary.weights
        count = len(placement)
        if not auxiliary.count[0] <= count <= auxiliary.count[1]:
            return None
        if count == 0:
            return {COUNT: 0}
        final_weight = clamped(1.0 - math.fsum(weights), *auxiliary.final_weight)
        if _text(placement) not in self._placements[count] or final_weight is None:
            return None
        point: Point = {COUNT: count, _placement(count): _text(placement), FINAL_WEIGHT: final_weight}
        for name, share in zip(_shares(count), shares_of(weights), strict=True):
            if (inside := clamped(share, LEAST_SHARE, MOST_SHARE)) is None:
                return None
            point[name] = inside
        return point

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
            source = _GridSource(points, odometer)
            grid.append(self.suggest(source))
            odometer = source.next()
        return grid

    def values(self, recipe: Recipe) -> dict[str, Value]:
        """The searched quantities of any recipe in human terms, for tables and trackers."""
        return self._human(_flat(recipe))

    def values_at(self, point: Point) -> dict[str, Value]:
        """The same of a point, which need not make a recipe."""
        return self._human(self._settings(point))

    def _human(self, content: Mapping[str, Any]) -> dict[str, Value]:
        values: dict[str, Value] = {each.name: _shown(content[each.key]) for each in self._quantities}
        if self._auxiliary:
            placement, weights = content[PLACEMENT_KEY], content[WEIGHTS_KEY]
            values["auxiliary.placement"] = _text(placement) or "none"
            values["auxiliary.weights"] = ",".join(_weight(weight) for weight in weights) or "none"
            values["final_weight"] = _shown(1.0 - sum(weights))
        return values


class _GridSource:
    """Plays one combination of grid values; `next` is the odometer of the one after it."""

    def __init__(self, points: int, odometer: Sequence[int]) -> None:
        self._points = points
        self._odometer = odometer
        self._turned: list[tuple[int, int]] = []  # (index taken, number of values)

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        if name.startswith(SHARE):
            # the ends of a stick would leave one classifier nearly nothing
            return self.choice(name, [(i + 1) / (self._points + 1) for i in range(self._points)])
        steps = [i / (self._points - 1) for i in range(1, self._points - 1)]
        inner = [low * (high / low) ** step if log else low + (high - low) * step for step in steps]
        return self.choice(name, [low, *inner, high] if low < high else [low])

    def integer(self, name: str, low: int, high: int) -> int:
        if name == COUNT or high - low < self._points:
            return self.choice(name, range(low, high + 1))
        return self.choice(name, [low + round((high - low) * i / (self._points - 1)) for i in range(self._points)])

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        place = len(self._turned)
        index = self._odometer[place] if place < len(self._odometer) else 0
        self._turned.append((index, len(values)))
        return values[index]

    def next(self) -> list[int] | None:
        turned = list(self._turned)
        while turned and turned[-1][0] + 1 == turned[-1][1]:
            turned.pop()
        return [*(index for index, _ in turned[:-1]), turned[-1][0] + 1] if turned else None


def weights_of(rest: float, shares: Sequence[float]) -> list[float]:
    """`rest` split over one classifier more than there are shares; uniform shares give a uniform simplex.

    Stick breaking: the first of m pieces is Beta(1, m - 1) of what is left, here by its inverse distribution function.
    """
    weights = []
    for pieces, share in zip(range(len(shares) + 1, 1, -1), shares, strict=True):
        piece = rest * (1.0 - (1.0 - share) ** (1.0 / (pieces - 1)))
        weights.append(piece)
        rest -= piece
    return [*weights, rest]


def shares_of(weights: Sequence[float]) -> list[float]:
    """The shares that `weights_of` splits into these weights."""
    shares = []
    for i, weight in enumerate(weights[:-1]):
        rest, after = math.fsum(weights[i:]), len(weights) - i - 1
        shares.append(1.0 - (1.0 - weight / rest) ** after)
    return shares


def _quantities(search: Search, base: Recipe) -> list[Quantity]:
    quantities = [quantity(key, key, dimension, base) for key, dimension in search.recipe.items()]
    if search.ctc_weight is not None:
        quantities.insert(0, quantity("ctc_weight", "loss.ctc_weight", search.ctc_weight, base))
    return quantities


def _placements(auxiliary: AuxiliarySearch, base: Recipe) -> dict[int, list[str]]:
    """For each count of auxiliary classifiers, the subsets of the allowed layers as text."""
    depth = base.decoder.layers
    layers = tuple(range(1, depth)) if auxiliary.layers is None else auxiliary.layers
    beyond = [layer for layer in layers if not 1 <= layer < depth]
    if beyond:
        raise UserError(
            f"search.auxiliary.layers names layer {beyond[0]}, but the decoder has {depth} layers "
            f"and the last one carries the final classifier; choose from 1 to {depth - 1}"
        )
    fewest, most = auxiliary.count
    if most > len(layers):
        raise UserError(
            f"search.auxiliary.count is [{fewest}, {most}], but only {len(layers)} decoder layers may carry an "
            f"auxiliary classifier; lower it to {len(layers)} or allow more layers"
        )
    for count in range(max(fewest, 1), most + 1):
        if (subsets := math.comb(len(layers), count)) > MOST_PLACEMENTS:
            raise UserError(
                f"search.auxiliary makes {subsets} placements of {count} classifiers on {len(layers)} layers, but "
                f"{MOST_PLACEMENTS} is the most a sampler can tell apart; narrow search.auxiliary.layers"
            )
    return {
        count: [_text(subset) for subset in itertools.combinations(layers, count)]
        for count in range(max(fewest, 1), most + 1)
    }


def _classifiers(placement: str, final_weight: float, shares: Sequence[float]) -> dict[str, Any]:
    """The recipe's two auxiliary keys."""
    layers = [int(layer) for layer in placement.split(",")] if placement else []
    return {PLACEMENT_KEY: layers, WEIGHTS_KEY: weights_of(1.0 - final_weight, shares) if layers else []}


def _flat(recipe: Recipe) -> dict[str, Any]:
    return {key: value_at(recipe, key) for key in dotted_keys(recipe)}


def _placement(count: int) -> str:
    return f"auxiliary.placement.{count}"


def _shares(count: int) -> list[str]:
    return [f"{SHARE}.{count}.{i}" for i in range(1, count)]


def _text(layers: Sequence[int]) -> str:
    return ",".join(str(layer) for layer in layers)


def _weight(weight: float) -> str:
    # two decimals would show a small weight as none
    return f"{weight:.2f}" if weight >= 0.01 else f"{weight:.1g}"


def _shown(value: Any) -> Value:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, int | str) else _text(value) if isinstance(value, list) else str(value)
