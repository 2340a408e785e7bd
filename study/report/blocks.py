"""What sections of a report consist of, the same for every form of it. Charts are drawn by the HTML page alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """A paragraph; `quiet` ones are remarks."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table. `numbers` are the columns that are sorted as numbers, `strong` the rows that are set in bold."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    numbers: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()
    most: int | None = None  # rows in forms that are printed


@dataclass(frozen=True)
class Control:
    """A choice beside a chart: its name, label, and (value, label) of each option, the first one chosen."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Chart:
    """A chart of the page: what kind it is of, which part of the report it draws, and what it shows, in words."""

    kind: str
    caption: str
    key: str = ""
    size: str = ""  # tall, or wide
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True)
class Code:
    """Text as it is in a file; `folded` under its title."""

    title: str
    text: str
    folded: bool = True


Block = Text | Bullets | Grid | Chart | Code


@dataclass(frozen=True)
class Section:
    """A section with the blocks of each study, in the order of the studies; `shared` are of all of them together."""

    anchor: str
    title: str
    columns: tuple[tuple[Block, ...], ...] = ()
    shared: tuple[Block, ...] = field(default=())


def remarks(lines: Sequence[str]) -> list[Block]:
    """Quiet paragraphs."""
    return [Text(line, quiet=True) for line in lines]


def shorten_rows(grid: Grid) -> tuple[tuple[tuple[str, ...], ...], str]:
    """The rows that a printed form has, and what it says of those that it leaves out."""
    if grid.most is None or len(grid.rows) <= grid.most:
        return grid.rows, ""
    return grid.rows[: grid.most], f"The first {grid.most} of {len(grid.rows)} rows; trials.csv and the JSON have all."
