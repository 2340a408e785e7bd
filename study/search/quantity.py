"""One searched recipe key: how it is drawn, put into a recipe and found in one again."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model.errors import UserError
from model.recipe.files import dotted_keys, value_at, with_values
from model.recipe.recipe import Recipe
from model.strict import unknown_name
from study.config.search_settings import Dimension

Value = str | float | int
Point = dict[str, Value]

TOLERANCE = 1e-9  # rounding of values that are computed into a recipe and back
MOST_COMBINATIONS = 256  # of extreme values that are tried together before a study starts
_INSIDE = 0.382  # a place within a range that no round number falls on: a whole-number key refuses it


class OutsideError(Exception):
    """A recipe that no point of the space gives; the message says why."""


class Source(Protocol):
    """Where suggested values come from: a sampler, a grid, a test."""

    def uniform(self, name: str, low: float, high: float, log: bool) -> float: ...
    def integer(self, name: str, low: int, high: int) -> int: ...
    def choice(self, name: str, values: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Quantity:
    """A parameter `name` of the space that sets the recipe key `key`."""

    name: str
    key: str
    dimension: Dimension
    options: dict[Value, Any]  # of a choice: what a sampler sees -> what the recipe gets

    def draw(self, source: Source) -> Value:
        if self.options:
            return source.choice(self.name, list(self.options))
        low, high = self.dimension.range
        if self.dimension.integer:
            return source.integer(self.name, int(low), int(high))
        return source.uniform(self.name, low, high, log=self.dimension.log_uniform is not None)

    def decoded(self, value: Value) -> Any:
        return self.options[value] if self.options else value

    def found(self, value: Any) -> Value:
        """What a sampler sees of a recipe's value; OutsideError when it sees none."""
        for option, known in self.options.items():
            if known == value:
                return option
        if self.options or not isinstance(value, int | float):
            allowed = f"of {', '.join(map(str, self.options))}" if self.options else "number"
            raise OutsideError(f"{self.name} {value} is none {allowed}")
        return inside(self.name, value, *self.dimension.range)

    def extremes(self) -> list[Any]:
        """The values between which all others lie."""
        return list(self.options.values()) if self.options else list(self.dimension.range)


def quantity(name: str, key: str, dimension: Dimension, base: Recipe) -> Quantity:
    """The searched quantity, after every kind of value in it was tried on the base recipe."""
    place = f"search.{name}" if key != name else f"search.recipe: {name}"
    if key in ("name", "data.corpus", "data.fingerprint"):
        raise UserError(f"{place} cannot be searched: a study has one corpus, and names change nothing")
    if key not in dotted_keys(base):
        raise UserError(f"{place} is no key of the recipe; {unknown_name(key, dotted_keys(base))}")
    options: dict[Value, Any] = {}
    for value in _trials_of(dimension):
        accepted = value_at(_accepted(base, key, value, place), key)
        if dimension.choice is not None:
            options[accepted if isinstance(accepted, str | float | int) else json.dumps(accepted)] = accepted
    return Quantity(name, key, dimension, options)


def check_together(quantities: Iterable[Quantity], base: Recipe, classifiers: Iterable[dict[str, Any]]) -> None:
    """Try extreme values with each other: a recipe's keys depend on one another (width on heads, layers on placement).

    `classifiers` are values of the auxiliary keys that have to fit as well.
    """
    quantities = list(quantities)
    corners = [[(quantity.key, value) for value in quantity.extremes()] for quantity in quantities]
    for values in itertools.islice(itertools.product(*corners), MOST_COMBINATIONS):
        for auxiliary in classifiers:
            try:
                with_values(base, dict(values) | auxiliary)
            except UserError as error:
                shown = ", ".join(f"{key} {value}" for key, value in values)
                raise UserError(f"search can meet {shown}, but {_reason(error)}; narrow one of them") from None


def inside(name: str, value: float, low: float, high: float) -> float:
    """`value` within [low, high], rounding forgiven; OutsideError when it is truly outside."""
    slack = TOLERANCE * max(1.0, abs(low), abs(high)) if isinstance(value, float) else 0
    if not low - slack <= value <= high + slack:
        raise OutsideError(f"{name} {value:.4g} is outside [{low:g}, {high:g}]")
    return min(max(value, type(value)(low)), type(value)(high))


def same_point(point: Point, other: Point) -> bool:
    """Whether points are equal, the rounding of a recipe's values forgiven."""
    return point.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-6)  # type: ignore[arg-type]
        if isinstance(value, float)
        else value == other[name]
        for name, value in point.items()
    )


def rounded(value: Any) -> Value:
    """A recipe's value for a person: numbers short, lists as text."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return (
        value if isinstance(value, int | str) else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    )


def _trials_of(dimension: Dimension) -> Sequence[Any]:
    if dimension.choice is not None:
        return dimension.choice
    low, high = dimension.range
    if dimension.integer:
        return range(int(low), int(high) + 1) if high - low < MOST_COMBINATIONS else (low, high)
    between = low ** (1 - _INSIDE) * high**_INSIDE if dimension.log_uniform else low + (high - low) * _INSIDE
    assert math.isfinite(between)
    return (low, between, high)


def _accepted(base: Recipe, key: str, value: Any, place: str) -> Recipe:
    try:
        return with_values(base, {key: value})
    except UserError as error:
        raise UserError(f"{place} can be {value!r}, but {_reason(error)}; change its values") from None


def _reason(error: UserError) -> str:
    return str(error).removeprefix("recipe: ")
