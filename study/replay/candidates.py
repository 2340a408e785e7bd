"""The trainings that a replayed study may still try, and the one that is nearest to a point that was drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from study.replay.table import Training
from study.search.quantity import Point
from study.search.space import Space

Coordinates = dict[str, float | str]  # numbers from 0 to 1, and choices as text


class Candidates:
    """The untried trainings of a table. `trainings` are those that this study can see, one of each configuration."""

    def __init__(self, space: Space, trainings: Sequence[Training]) -> None:
        self._space = space
        self._named = {training.record.baseline: training for training in trainings if training.record.baseline}
        self._untried = [(training, locate(space, training.point)) for training in trainings if training.point]

    def __len__(self) -> int:
        return len(self._untried)

    def take_named(self, baseline: str) -> Training | None:
        """The training of a baseline; None where the table has none."""
        training = self._named.pop(baseline, None)
        self._drop(training)
        return training

    def take_nearest(self, point: Point) -> Training:
        """The untried training whose point is nearest; of equally near ones the first."""
        place = locate(self._space, point)
        training, _ = min(self._untried, key=lambda candidate: measure_distance(candidate[1], place))
        self._drop(training)
        return training

    def _drop(self, training: Training | None) -> None:
        self._untried = [(other, place) for other, place in self._untried if other is not training]


def locate(space: Space, point: Point) -> Coordinates:
    """The point in the space's own coordinates: ranges from 0 to 1, magnitudes where they are drawn so."""
    source = _Locating(point)
    space.suggest(source)
    return source.coordinates


def measure_distance(one: Coordinates, other: Coordinates) -> float:
    """Euclidean; another choice, or a parameter that one of the points lacks, is as far as a range is wide."""
    squares = 0.0
    for name in sorted(one.keys() | other.keys()):
        a, b = one.get(name), other.get(name)
        squares += (a - b) ** 2 if isinstance(a, float) and isinstance(b, float) else float(a != b)
    return math.sqrt(squares)


class _Locating:
    """Suggests the values of a known point, and notes where they lie."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self.coordinates: Coordinates = {}

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        value = float(self._point[name])
        if low < high:
            share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
            self.coordinates[name] = share
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = int(self._point[name])
        self.coordinates[name] = (value - low) / (high - low) if low < high else 0.0
        return value

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        self.coordinates[name] = str(self._point[name])
        return self._point[name]
