"""The report as Markdown: its texts and tables. Charts are on the HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from study.report.blocks import Block, Bullets, Chart, Code, Grid, Text, shorten_rows
from study.report.document import TextForm, list_parts
from study.report.value import Report


def render_markdown(reports: Sequence[Report]) -> str:
    """One study, or two, as a Markdown document."""
    form = TextForm(lambda level, text: f"{'#' * level} {text}", _escape, _render_grid, _render_blocks)
    return "\n\n".join(list_parts(reports, form)) + "\n"


def _render_blocks(blocks: Sequence[Block]) -> list[str]:
    return [text for block in blocks if (text := _render_block(block))]


def _render_block(block: Block) -> str:
    match block:
        case Text():
            return _escape(block.text)
        case Bullets():
            return "\n".join(f"- {_escape(item)}" for item in block.items)
        case Grid():
            return _render_grid(block)
        case Code():
            return f"**{block.title}**\n\n```text\n{block.text.rstrip()}\n```"
        case Chart():
            return ""


def _render_grid(grid: Grid) -> str:
    rows, more = shorten_rows(grid)
    lines = [
        _render_row(grid.header),
        _render_row(["--:" if column in grid.numbers else "---" for column in range(len(grid.header))]),
    ]
    for number, row in enumerate(rows):
        strong = number in grid.strong
        lines.append(_render_row([f"**{_escape(cell)}**" if strong and cell else _escape(cell) for cell in row]))
    title = [f"**{_escape(grid.title)}**\n"] if grid.title else []
    return "\n".join([*title, *lines, *([f"\n{more}"] if more else [])])


def _render_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Text in which no character means anything to Markdown."""
    for character in ("\\", "|", "*", "_", "`", "<", "["):
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
