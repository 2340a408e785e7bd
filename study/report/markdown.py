"""The report as Markdown: its texts and tables. Charts are on the HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from study.report.blocks import Block, Bullets, Chart, Code, Grid, Text, shorten_rows
from study.report.document import make_sections, make_title
from study.report.results import make_standings_grid
from study.report.value import Report


def render_markdown(reports: Sequence[Report]) -> str:
    """One study, or two, as a Markdown document."""
    parts = [f"# {make_title(reports)}"]
    for report in reports:
        if len(reports) > 1:
            parts.append(f"## {report.name}")
        parts += [_escape(line) for line in report.headline]
        if report.standings:
            parts.append(_render_grid(make_standings_grid(report)))
    for section in make_sections(reports):
        parts.append(f"## {section.title}")
        parts += _render_blocks(section.shared)
        for report, blocks in zip(reports, section.columns, strict=False):
            parts += [f"### {report.name}"] if len(reports) > 1 else []
            parts += _render_blocks(blocks)
    return "\n\n".join(parts) + "\n"


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
