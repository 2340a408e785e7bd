"""Draws for the points of a search space."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any


class RandomSource:
    """Uniform draws."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return self.random.uniform(low, high)

    def integer(self, name: str, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self.random.choice(values)
