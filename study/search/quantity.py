"""One searched recipe key: how a value of it is drawn, decoded into a recipe and encoded from one."""

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

TOLERANCE = 1e-9  # relative; values are rounded when they are computed into a recipe and back
MAX_COMBINATIONS = 256  # of extreme values that are checked together before a study starts
_BETWEEN = 0.382  # a share of a range where no round number lies: a key that takes whole numbers refuses it


class OutsideError(Exception):
    """A recipe that no point of the space decodes to; the message is the reason."""


class ValueSource(Protocol):
    """Suggests the values of a point's parameters, one after the other: a sampler, the grid, a test."""

    def uniform(self, name: str, low: float, high: float, log: bool) -> float: ...
    def integer(self, name: str, low: int, high: int) -> int: ...
    def choice(self, name: str, values: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Quantity:
    """A parameter `name` of the search space that sets the recipe key `key`."""

    name: str
    key: str
    dimension: Dimension
    options: dict[Value, Any]  # of a choice: the sampler's value -> the recipe's; empty for ranges

    def draw(self, source: ValueSource) -> Value:
        """A value from the source, as the sampler sees it."""
        if self.options:
            return source.choice(self.name, list(self.options))
        low, high = self.dimension.range
        if self.dimension.integer:
            return source.integer(self.name, int(low), int(high))
        return source.uniform(self.name, low, high, log=self.dimension.log_uniform is not None)

    def decode(self, value: Value) -> Any:
        """The recipe's value of the sampler's."""
        return self.options[value] if self.options else value

    def encode(self, value: Any) -> Value:
        """The sampler's value of the recipe's; OutsideError where the dimension does not hold it."""
        for option, option_value in self.options.items():
            if option_value == value:
                return option
        if self.options or not isinstance(value, int | float):
            allowed = f"one of {', '.join(map(str, self.options))}" if self.options else "a number"
            raise OutsideError(f"{self.name} {value} is not {allowed}")
        return clip_to_range(self.name, value, *self.dimension.range)

    def approximate(self, value: Any, default: Any) -> Value:
        """The sampler's value that is nearest to a recipe's, or where none is near, as to null, to the default."""
        for wanted in (value, default):
            if (near := self._find_nearest(wanted)) is not None:
                return near
        return next(iter(self.options)) if self.options else self.dimension.range[0]

    def _find_nearest(self, value: Any) -> Value | None:
        """Of a choice the same value, or the nearest number."""
        same = [option for option, held in self.options.items() if held == value]
        if same or not _is_number(value):
            return same[0] if same else None
        if self.options:
            numbers = {option: held for option, held in self.options.items() if _is_number(held)}
            return min(numbers, key=lambda option: _measure_distance(numbers[option], value), default=None)
        low, high = self.dimension.range
        inside = min(max(float(value), low), high)
        return round(inside) if self.dimension.integer else inside

    def list_extremes(self) -> list[Any]:
        """The recipe's values between which all others lie: the ends of a range, all values of a choice."""
        return list(self.options.values()) if self.options else list(self.dimension.range)


def make_quantity(name: str, key: str, dimension: Dimension, base: Recipe) -> Quantity:
    """The searched quantity; a UserError where the base recipe has no such key or refuses a value of the dimension."""
    place = f"search.{name}" if key != name else f"search.recipe: {name}"
    if key in ("name", "data.corpus", "data.fingerprint"):
        raise UserError(f"{place} cannot be searched: a study has one corpus, and names change nothing")
    if key == "validation.utterances":
        raise UserError(f"{place} cannot be searched: trials are compared on the same utterances; set it in recipe.set")
    if key not in dotted_keys(base):
        raise UserError(f"{place} is no key of the recipe; {unknown_name(key, dotted_keys(base))}")
    options: dict[Value, Any] = {}
    for value in _list_values_to_check(dimension):
        accepted = value_at(_try_value(base, key, value, place), key)
        if dimension.choice is not None:
            options[accepted if isinstance(accepted, str | float | int) else json.dumps(accepted)] = accepted
    return Quantity(name, key, dimension, options)


def check_combinations(quantities: Iterable[Quantity], base: Recipe, classifiers: Iterable[dict[str, Any]]) -> None:
    """A UserError where extreme values that are valid alone make no recipe together.

    A recipe's keys depend on one another: width on heads, layers on placement. `classifiers` are values of the
    auxiliary keys that every combination has to fit.
    """
    quantities = list(quantities)
    corners = [[(quantity.key, value) for value in quantity.list_extremes()] for quantity in quantities]
    for values in itertools.islice(itertools.product(*corners), MAX_COMBINATIONS):
        for auxiliary in classifiers:
            try:
                with_values(base, dict(values) | auxiliary)
            except UserError as error:
                combination = ", ".join(f"{key} {value}" for key, value in values)
                raise UserError(
                    f"search can meet {combination}, but {_drop_prefix(error)}; narrow one of them"
                ) from None


def clip_to_range(name: str, value: float, low: float, high: float) -> float:
    """`value` clipped to [low, high] where it is outside by rounding only; OutsideError where it is by more."""
    slack = TOLERANCE * max(1.0, abs(low), abs(high)) if isinstance(value, float) else 0
    if not low - slack <= value <= high + slack:
        raise OutsideError(f"{name} {value:.4g} is outside [{low:g}, {high:g}]")
    return min(max(value, type(value)(low)), type(value)(high))


def same_point(point: Point, other: Point) -> bool:
    """Whether points are equal up to the rounding of a recipe's values."""
    return point.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-6)  # type: ignore[arg-type]
        if isinstance(value, float)
        else value == other[name]
        for name, value in point.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _measure_distance(one: float, other: float) -> float:
    """Of two values of a choice: their ratio's logarithm where both are positive, since rates differ by magnitudes."""
    return abs(math.log(one / other)) if one > 0 and other > 0 else abs(one - other)


def round_value(value: Any) -> Value:
    """A recipe's value for tables: four digits of a number, a list as text."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, int | str) else str(value)


def _list_values_to_check(dimension: Dimension) -> Sequence[Any]:
    """All values of a choice and of a short range of whole numbers; of other ranges the ends and one between."""
    if dimension.choice is not None:
        return dimension.choice
    low, high = dimension.range
    if dimension.integer:
        return range(int(low), int(high) + 1) if high - low < MAX_COMBINATIONS else (low, high)
    between = low ** (1 - _BETWEEN) * high**_BETWEEN if dimension.log_uniform else low + (high - low) * _BETWEEN
    assert math.isfinite(between)
    return (low, between, high)


def _try_value(base: Recipe, key: str, value: Any, place: str) -> Recipe:
    try:
        return with_values(base, {key: value})
    except UserError as error:
        raise UserError(f"{place} can be {value!r}, but {_drop_prefix(error)}; change its values") from None


def _drop_prefix(error: UserError) -> str:
    return str(error).removeprefix("recipe: ")
