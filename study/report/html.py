"""The report as one HTML page: texts and tables as HTML, charts drawn from the page's own JSON."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from study.pages.page import Page, read_asset, render_page
from study.pages.palette import describe_palette
from study.report.beside import find_common, list_differences
from study.report.blocks import Block, Bullets, Chart, Code, Grid, Section, Text
from study.report.document import make_sections, make_title
from study.report.labels import METRICS, start_sentence
from study.report.origin import format_time
from study.report.results import make_standings_grid
from study.report.value import Report, to_dict

LONG = 32  # characters of a cell that may be folded
SCRIPTS = ("charts.js", "charts-search.js", "charts-course.js")


def render_html(reports: Sequence[Report]) -> str:
    """The page of one study, or of two side by side, as the text of a file that needs no network."""
    sections = make_sections(reports)
    body = "\n".join(
        [
            f"<header><h1>{escape(make_title(reports))}</h1>",
            '<div class="beside">' if len(reports) > 1 else "<div>",
            *(_render_front(report, len(reports) > 1) for report in reports),
            "</div></header>",
            _render_contents(sections),
            "<main>",
            *(_render_section(section, reports) for section in sections),
            "</main>",
        ]
    )
    scripts = tuple(read_asset("study.report", name) for name in SCRIPTS)
    styles = (read_asset("study.report", "report.css"),)
    return render_page(Page(make_title(reports), body, make_data(reports), styles, scripts, charts=True))


def make_data(reports: Sequence[Report]) -> dict[str, Any]:
    """What the page's charts draw from: the reports as JSON, the looks of things, and the names of metrics."""
    data: dict[str, Any] = {"studies": [to_dict(report) for report in reports], "palette": describe_palette()}
    data["labels"] = {"metrics": METRICS}
    return data | (compare_reports(*reports) if len(reports) == 2 else {})


def compare_reports(first: Report, second: Report) -> dict[str, Any]:
    """What two reports differ in, and their common trials, as JSON types."""
    return {
        "differences": [list(row) for row in list_differences(first, second)],
        "common": [
            {
                "first": one.number,
                "second": other.number,
                "difference": None if one.figure is None or other.figure is None else one.figure - other.figure,
            }
            for one, other in find_common(first, second)
        ],
    }


def _render_front(report: Report, is_one_of_two: bool) -> str:
    """The first screen: the verdict, the best trial and the baselines in words, then as a table."""
    name = f"<div><h2>{escape(report.name)}</h2>" if is_one_of_two else "<div>"
    standings = _render_grid(make_standings_grid(report)) if report.standings else ""
    lines = "".join(f"<p>{escape(start_sentence(line))}</p>" for line in report.headline)
    stage = f", each by its best decoding until the stage '{report.ranked_stage}'" if report.ranked_stage else ""
    facts = (
        f"As of {format_time(report.made_of)}, decred-study {report.version}. Trials are ranked by "
        f"{report.ranked_label}{stage}."
    )
    return f'{name}<div class="verdict">{lines}</div>{standings}<p class="quiet small">{escape(facts)}</p></div>'


def _render_contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    return f'<nav class="contents" aria-label="Sections">{links}</nav>'


def _render_section(section: Section, reports: Sequence[Report]) -> str:
    parts = [f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>']
    parts += [_render_block(block, section, number, 0) for number, block in enumerate(section.shared)]
    if len(section.columns) > 1:
        parts.append('<div class="beside">')
    for study, blocks in enumerate(section.columns):
        if len(section.columns) > 1:
            parts.append(f"<div><h3>{escape(reports[study].name)}</h3>")
        parts += [_render_block(block, section, number, study) for number, block in enumerate(blocks)]
        parts.append("</div>" if len(section.columns) > 1 else "")
    parts.append("</div></section>" if len(section.columns) > 1 else "</section>")
    return "\n".join(parts)


def _render_block(block: Block, section: Section, number: int, study: int) -> str:
    match block:
        case Text():
            return f'<p class="quiet small">{escape(block.text)}</p>' if block.quiet else f"<p>{escape(block.text)}</p>"
        case Bullets():
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
        case Grid():
            return _render_grid(block)
        case Code() if block.folded:
            return f"<details><summary>{escape(block.title)}</summary><pre>{escape(block.text)}</pre></details>"
        case Code():
            return f"<h3>{escape(block.title)}</h3><pre>{escape(block.text)}</pre>"
        case Chart():
            return _render_chart(block, f"{section.anchor}-{study}-{number}", study)


def _render_chart(chart: Chart, element: str, study: int) -> str:
    controls = "".join(
        f'<label>{escape(control.label)}<select name="{control.name}">'
        + "".join(f'<option value="{escape(value)}">{escape(label)}</option>' for value, label in control.options)
        + "</select></label>"
        for control in chart.controls
    )
    controls = f'<div class="controls" data-for="{element}">{controls}</div>' if controls else ""
    caption = start_sentence(chart.caption)
    inner = (
        f'<div class="chart {chart.size}" id="{element}" data-kind="{chart.kind}" data-study="{study}" '
        f'data-key="{escape(chart.key)}" role="img" aria-label="{escape(caption)}"></div>'
    )
    inner = f'<div class="scroll">{inner}</div>' if chart.size == "wide" else inner
    half = ' class="half"' if chart.size == "half" else ""
    return f'<figure{half}>{controls}{inner}<figcaption class="quiet small">{escape(caption)}</figcaption></figure>'


def _render_grid(grid: Grid) -> str:
    title = f"<h3>{escape(grid.title)}</h3>" if grid.title else ""
    head = "".join(
        f'<th data-sort="number" class="number">{escape(name)}</th>'
        if column in grid.numbers
        else f'<th data-sort="text">{escape(name)}</th>'
        for column, name in enumerate(grid.header)
    )
    rows = "".join(
        ("<tr class=strong>" if row in grid.strong else "<tr>")
        + "".join(_render_cell(cell, column in grid.numbers) for column, cell in enumerate(cells))
        + "</tr>"
        for row, cells in enumerate(grid.rows)
    )
    long = " long" if len(grid.rows) > 25 else ""
    return f'{title}<div class="scroll{long}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _render_cell(cell: str, is_number: bool) -> str:
    kind = " class=number" if is_number else " class=words" if len(cell) > LONG else ""
    return f"<td{kind}>{escape(cell)}</td>"
