"""What the search proposes: a recipe to try, or a point that decodes to none."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.recipe.recipe import Recipe
from study.ledger.steering import Enqueued
from study.search.quantity import Point, Value


@dataclass(frozen=True)
class Proposal:
    """A recipe to try, and the number of its trial."""

    number: int
    recipe: Recipe
    values: dict[str, Value]  # the searched quantities, for tables and MLflow
    baseline: str | None = None
    point: Point = field(default_factory=dict)  # what the sampler drew; empty for a baseline outside the space
    confirms: int | None = None  # the finalist that it trains again with another seed
    enqueued: Enqueued | None = None  # what a person asked for, where no sampler proposed it


@dataclass(frozen=True)
class InfeasiblePoint:
    """A sampled point that decodes to no valid recipe, and why."""

    number: int
    values: dict[str, Value]
    reason: str
    point: Point = field(default_factory=dict)
    recipe_class: str = ""
