"""The grid as a source of values: each source suggests the values of one grid point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from study.search.classifiers import COUNT, SHARE


class GridSource:
    """Suggests the grid point at `indices`, which has the index of the value of each parameter, in order.

    Parameters beyond the end of `indices` take their first value. Which parameters follow may depend on the values
    taken before, so the point after this one is known only when all have been suggested: `next_indices`.
    """

    def __init__(self, points: int, indices: Sequence[int]) -> None:
        self._points = points
        self._indices = indices
        self._taken: list[tuple[int, int]] = []  # (index taken, number of values) of each parameter so far

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        if name.startswith(SHARE):
            # at the ends of this range one classifier would have nearly no weight
            return self.choice(name, [(i + 1) / (self._points + 1) for i in range(self._points)])
        steps = [i / (self._points - 1) for i in range(1, self._points - 1)]
        inner = [low * (high / low) ** step if log else low + (high - low) * step for step in steps]
        return self.choice(name, [low, *inner, high] if low < high else [low])

    def integer(self, name: str, low: int, high: int) -> int:
        if name == COUNT or high - low < self._points:
            return self.choice(name, range(low, high + 1))
        return self.choice(name, [low + round((high - low) * i / (self._points - 1)) for i in range(self._points)])

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        position = len(self._taken)
        index = self._indices[position] if position < len(self._indices) else 0
        self._taken.append((index, len(values)))
        return values[index]

    def next_indices(self) -> list[int] | None:
        """The indices of the next grid point, the last parameter varying fastest; None after the last point."""
        taken = list(self._taken)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        return [*(index for index, _ in taken[:-1]), taken[-1][0] + 1] if taken else None
