"""The part of the search space that `search.auxiliary` describes: how many classifiers, on which layers, which weights.

Parameters of a point: their count, for each count a placement (a subset of the layers, as text), the final classifier's
weight, and shares that split what is left over the auxiliary ones.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.search_settings import AuxiliarySettings
from study.search.quantity import OutsideError, Point, Value, ValueSource, clip_to_range, round_value

MAX_PLACEMENTS = 500  # subsets of one size; a sampler learns nothing from a category that it meets once
MIN_SHARE, MAX_SHARE = 1e-3, 1.0 - 1e-3  # of what is left in stick breaking: keeps every weight above 0

NEAR = 0.1  # of the decoder's depth: placements that differ by it have 1 / e of the odds

AUXILIARY = "auxiliary."  # what the names of these parameters start with
COUNT, FINAL_WEIGHT, SHARE = f"{AUXILIARY}count", f"{AUXILIARY}final_weight", f"{AUXILIARY}share"
PLACEMENT_KEY, WEIGHTS_KEY = "loss.auxiliary.placement", "loss.auxiliary.weights"


class ClassifierSpace:
    """What `search.auxiliary` allows on the decoder of the base recipe."""

    def __init__(self, search: AuxiliarySettings, base: Recipe) -> None:
        self._search, self._depth = search, base.decoder.layers
        self._placements = _list_placements(search, base)

    def list_extremes(self) -> list[dict[str, Any]]:
        """Values of the auxiliary keys that other keys have to fit: no classifier, and those on the deepest layers."""
        deepest = [placements[-1] for placements in self._placements.values()][-1:]
        return [
            _make_recipe_keys("", 1.0, []),
            *(_make_recipe_keys(text, 0.5, [0.5] * text.count(",")) for text in deepest),
        ]

    def suggest(self, source: ValueSource) -> Point:
        """The parameters that are active for the count that the source gives."""
        count = source.integer(COUNT, *self._search.count)
        point: Point = {COUNT: count}
        if count:
            point[_name_placement(count)] = source.choice(_name_placement(count), self._placements[count])
            point[FINAL_WEIGHT] = source.uniform(FINAL_WEIGHT, *self._search.final_weight, log=False)
            point |= {name: source.uniform(name, MIN_SHARE, MAX_SHARE, log=False) for name in _name_shares(count)}
        return point

    def decode(self, point: Point) -> dict[str, Any]:
        """The recipe's auxiliary keys at the point."""
        if not (count := int(point[COUNT])):
            return _make_recipe_keys("", 1.0, [])
        shares = [float(point[name]) for name in _name_shares(count)]
        return _make_recipe_keys(str(point[_name_placement(count)]), float(point[FINAL_WEIGHT]), shares)

    def encode(self, recipe: Recipe) -> Point:
        """The part of a point that decodes to the recipe's classifiers; OutsideError where there is none."""
        placement, weights = recipe.loss.auxiliary.placement, recipe.loss.auxiliary.weights
        count, text = len(placement), _format_layers(placement)
        fewest, most = self._search.count
        if not fewest <= count <= most:
            raise OutsideError(f"auxiliary.count {count} is outside [{fewest}, {most}]")
        if count == 0:
            return {COUNT: 0}
        if text not in self._placements[count]:
            raise OutsideError(f"auxiliary.placement {text} is on a layer that auxiliary.layers leaves out")
        final_weight = clip_to_range("final_weight", 1.0 - math.fsum(weights), *self._search.final_weight)
        shares = {
            name: clip_to_range("auxiliary.weights: a share of", share, MIN_SHARE, MAX_SHARE)
            for name, share in zip(_name_shares(count), weights_to_shares(weights), strict=True)
        }
        return {COUNT: count, _name_placement(count): text, FINAL_WEIGHT: final_weight, **shares}

    def approximate(self, recipe: Recipe) -> Point:
        """The part of the point whose classifiers are nearest to the recipe's, by relative depth."""
        placement, weights = recipe.loss.auxiliary.placement, recipe.loss.auxiliary.weights
        fewest, most = self._search.count
        count = min(max(len(placement), fewest), most)
        if count == 0:
            return {COUNT: 0}
        heaviest = sorted(range(len(placement)), key=lambda index: -weights[index])[:count]
        depths = [placement[index] / recipe.decoder.layers for index in sorted(heaviest)]
        missing = count - len(depths)
        depths = sorted([*depths, *((number + 1) / (missing + 1) for number in range(missing))])
        nearest = min(self._placements[count], key=lambda text: self._measure_distance(text, depths))
        low, high = self._search.final_weight
        kept = [weights[index] for index in sorted(heaviest)] if not missing else [1.0] * count
        shares = dict(zip(_name_shares(count), weights_to_shares(kept), strict=True))
        return {
            COUNT: count,
            _name_placement(count): nearest,
            FINAL_WEIGHT: min(max(1.0 - math.fsum(weights), low), high),
            **{name: min(max(share, MIN_SHARE), MAX_SHARE) for name, share in shares.items()},
        }

    def draw_near(self, point: Point, generator: random.Random) -> Point:
        """Classifiers on layers near those of `point`, with other weights; the nearer, the likelier."""
        if not (count := int(point[COUNT])):
            return {COUNT: 0}
        depths = [layer / self._depth for layer in _read_layers(str(point[_name_placement(count)]))]
        placements = self._placements[count]
        odds = [math.exp(-self._measure_distance(text, depths) / NEAR) for text in placements]
        return {
            COUNT: count,
            _name_placement(count): generator.choices(placements, odds)[0],
            FINAL_WEIGHT: generator.uniform(*self._search.final_weight),
            **{name: generator.uniform(MIN_SHARE, MAX_SHARE) for name in _name_shares(count)},
        }

    def _measure_distance(self, text: str, depths: Sequence[float]) -> float:
        """Between a placement and relative depths, as many of them: the mean difference."""
        layers = _read_layers(text)
        return sum(abs(layer / self._depth - depth) for layer, depth in zip(layers, depths, strict=True)) / len(layers)

    def describe(self, content: Mapping[str, Any]) -> dict[str, Value]:
        """The classifiers of a flat recipe, rounded for tables."""
        weights = content[WEIGHTS_KEY]
        return {
            "auxiliary.placement": _format_layers(content[PLACEMENT_KEY]) or "none",
            "auxiliary.weights": ",".join(_format_weight(weight) for weight in weights) or "none",
            "final_weight": round_value(1.0 - sum(weights)),
        }


def shares_to_weights(rest: float, shares: Sequence[float]) -> list[float]:
    """`rest` split over one classifier more than there are shares; uniform shares give weights uniform on a simplex.

    Stick breaking: the first of m pieces is Beta(1, m - 1) of what is left, here by its inverse distribution function.
    """
    weights = []
    for pieces, share in zip(range(len(shares) + 1, 1, -1), shares, strict=True):
        piece = rest * (1.0 - (1.0 - share) ** (1.0 / (pieces - 1)))
        weights.append(piece)
        rest -= piece
    return [*weights, rest]


def weights_to_shares(weights: Sequence[float]) -> list[float]:
    """The inverse of `shares_to_weights`."""
    shares = []
    for i, weight in enumerate(weights[:-1]):
        rest, after = math.fsum(weights[i:]), len(weights) - i - 1
        shares.append(1.0 - (1.0 - weight / rest) ** after)
    return shares


def _list_placements(auxiliary: AuxiliarySettings, base: Recipe) -> dict[int, list[str]]:
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
        if (subsets := math.comb(len(layers), count)) > MAX_PLACEMENTS:
            raise UserError(
                f"search.auxiliary makes {subsets} placements of {count} classifiers on {len(layers)} layers, but "
                f"{MAX_PLACEMENTS} is the most that a sampler can distinguish; narrow search.auxiliary.layers"
            )
    return {
        count: [_format_layers(subset) for subset in itertools.combinations(layers, count)]
        for count in range(max(fewest, 1), most + 1)
    }


def _make_recipe_keys(placement: str, final_weight: float, shares: Sequence[float]) -> dict[str, Any]:
    """The recipe's two auxiliary keys."""
    layers = _read_layers(placement)
    return {PLACEMENT_KEY: layers, WEIGHTS_KEY: shares_to_weights(1.0 - final_weight, shares) if layers else []}


def _name_placement(count: int) -> str:
    return f"{AUXILIARY}placement.{count}"


def _name_shares(count: int) -> list[str]:
    return [f"{SHARE}.{count}.{i}" for i in range(1, count)]


def _format_layers(layers: Sequence[int]) -> str:
    return ",".join(str(layer) for layer in layers)


def _read_layers(placement: str) -> list[int]:
    return [int(layer) for layer in placement.split(",")] if placement else []


def _format_weight(weight: float) -> str:
    # two decimals would show a small weight as 0.00
    return f"{weight:.2f}" if weight >= 0.01 else f"{weight:.1g}"
