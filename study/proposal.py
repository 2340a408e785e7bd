"""What is handed over to be tried."""

from __future__ import annotations

from dataclasses import dataclass

from model.recipe import Recipe
from study.quantity import Value


@dataclass(frozen=True)
class Proposal:
    """A recipe to try, under the number that it has everywhere."""

    number: int
    recipe: Recipe
    values: dict[str, Value]  # the searched quantities, for tables and MLflow
    baseline: str | None = None


@dataclass(frozen=True)
class Refused:
    """A sampled point that makes no recipe."""

    number: int
    values: dict[str, Value]
    reason: str
