"""One combination of grid values after the other, as if a sampler drew them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from study.search.classifiers import COUNT, SHARE


class GridSource:
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
