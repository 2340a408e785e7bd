"""A report, or two side by side, as sections: the one order and the words of every form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from study.report.beside import list_common
from study.report.blocks import Block, Section
from study.report.course import list_curves, list_decodings, list_hours, list_negative, list_origin, list_trials
from study.report.results import list_importance, list_parallel, list_planes, list_search, list_verdict
from study.report.value import Report

SECTIONS: tuple[tuple[str, str, Callable[[Report], list[Block]]], ...] = (
    ("verdict", "Verdict", list_verdict),
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
    """The sections of one report, or of two: what they differ in comes first then."""
    sections = [Section(anchor, title, tuple(tuple(make(one)) for one in reports)) for anchor, title, make in SECTIONS]
    if len(reports) == 1:
        return sections
    return [Section("beside", "Side by side", shared=tuple(list_common(reports[0], reports[1]))), *sections]


def make_title(reports: Sequence[Report]) -> str:
    """Of a page, or a document."""
    names = " beside ".join(report.name for report in reports)
    return f"Study {names}" if len(reports) == 1 else f"Studies {names}"
