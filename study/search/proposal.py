"""What is handed over to be tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.recipe.recipe import Recipe
from study.search.quantity import Point, Value


@dataclass(frozen=True)
class Proposal:
    """A recipe to try, under the number that it has everywhere."""

    number: int
    recipe: Recipe
    values: dict[str, Value]  # the searched quantities, for tables and MLflow
    baseline: str | None = None
    point: Point = field(default_factory=dict)  # what the sampler drew; a baseline outside the space has none


@dataclass(frozen=True)
class Refused:
    """A sampled point that makes no recipe."""

    number: int
    values: dict[str, Value]
    reason: str
    point: Point = field(default_factory=dict)
