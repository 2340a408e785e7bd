"""A report, or two side by side, as sections: the one order and the words of every form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from study.report.beside import list_common
from study.report.blocks import Block, Grid, Section
from study.report.course import list_curves, list_decodings, list_hours, list_negative, list_origin, list_trials
from study.report.results import (
    list_importance,
    list_objectives,
    list_parallel,
    list_planes,
    list_search,
    list_verdict,
    make_standings_grid,
)
from study.report.value import Report

SECTIONS: tuple[tuple[str, str, Callable[[Report], list[Block]]], ...] = (
    ("verdict", "Verdict", list_verdict),
    ("objectives", "Both objectives", list_objectives),
    ("planes", "WER against the internal language model", list_planes),
    ("search", "What was searched", list_search),
    ("importance", "Importance", list_importance),
    ("parallel", "All quantities together", list_parallel),
    ("trials", "Trials over time", list_trials),
    ("curves", "Learning curves", list_curves),
    ("decodings", "Decodings", list_decodings),
    ("hours", "Hours", list_hours),
    ("negative", "What did not help", list_negative),
    ("origin", "How to reproduce", list_origin),
)


def make_sections(reports: Sequence[Report]) -> list[Section]:
    """The sections of one report, or of two: what they differ in comes first then. Those without anything are left
    out."""
    sections = [Section(anchor, title, tuple(tuple(make(one)) for one in reports)) for anchor, title, make in SECTIONS]
    sections = [section for section in sections if any(section.columns)]
    if len(reports) == 1:
        return sections
    return [Section("beside", "Side by side", shared=tuple(list_common(reports[0], reports[1]))), *sections]


def make_title(reports: Sequence[Report]) -> str:
    """Of a page, or a document."""
    names = " beside ".join(report.name for report in reports)
    return f"Study {names}" if len(reports) == 1 else f"Studies {names}"


@dataclass(frozen=True)
class TextForm:
    """How a form of text is written: headings of the levels 1 to 3, a line, a table, and blocks."""

    heading: Callable[[int, str], str]
    line: Callable[[str], str]
    grid: Callable[[Grid], str]
    blocks: Callable[[Sequence[Block]], list[str]]


def list_parts(reports: Sequence[Report], form: TextForm) -> list[str]:
    """The parts of a document in their order, each as text of the form."""
    parts = [form.heading(1, make_title(reports))]
    for report in reports:
        if len(reports) > 1:
            parts.append(form.heading(2, report.name))
        parts += [form.line(line) for line in report.headline]
        if report.standings:
            parts.append(form.grid(make_standings_grid(report)))
    for section in make_sections(reports):
        parts += [form.heading(2, section.title), *form.blocks(section.shared)]
        for report, blocks in zip(reports, section.columns, strict=False):
            parts += [form.heading(3, report.name)] if len(reports) > 1 else []
            parts += form.blocks(blocks)
    return parts
