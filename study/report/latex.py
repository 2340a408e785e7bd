"""The report as LaTeX: tables with booktabs that are set in a paper, or the whole as a document."""

from __future__ import annotations

from collections.abc import Sequence

from study.report.blocks import Block, Bullets, Chart, Code, Grid, Text, shorten_rows
from study.report.document import TextForm, list_parts
from study.report.value import Report

HEAD = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs,adjustbox,textcomp}
\begin{document}
"""
WIDE = 7  # columns; a table of more is made as narrow as the text
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
}


def render_latex(reports: Sequence[Report]) -> str:
    """One study, or two, as a LaTeX document that needs no file but itself."""
    form = TextForm(_make_heading, escape, _render_grid, _render_blocks)
    return HEAD + "\n\n".join(list_parts(reports, form)) + "\n\\end{document}\n"


def _make_heading(level: int, text: str) -> str:
    return f"\\{'sub' * (level - 1)}section*{{{escape(text)}}}"


def _render_blocks(blocks: Sequence[Block]) -> list[str]:
    return [text for block in blocks if (text := _render_block(block))]


def _render_block(block: Block) -> str:
    match block:
        case Text():
            return escape(block.text)
        case Bullets():
            items = "\n".join(f"  \\item {escape(item)}" for item in block.items)
            return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"
        case Grid():
            return _render_grid(block)
        case Code():  # the text may not end its own environment
            text = block.text.replace("\\end{verbatim}", "").rstrip()
            return f"\\paragraph{{{escape(block.title)}}}\n\\begin{{verbatim}}\n{text}\n\\end{{verbatim}}"
        case Chart():
            return ""


def _render_grid(grid: Grid) -> str:
    rows, more = shorten_rows(grid)
    columns = "".join("r" if column in grid.numbers else "l" for column in range(len(grid.header)))
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", _render_row(grid.header), "\\midrule"]
    for number, row in enumerate(rows):
        lines.append(_render_row(row, number in grid.strong))
    table = "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])
    is_wide = len(grid.header) >= WIDE or any(len("".join(row)) > 80 for row in rows)
    if is_wide:
        table = f"\\begin{{adjustbox}}{{max width=\\textwidth}}\n{table}\n\\end{{adjustbox}}"
    title = f"\\paragraph{{{escape(grid.title)}}}\\mbox{{}}\n\n" if grid.title else ""
    return f"{title}\\noindent\n{table}" + (f"\n\n{escape(more)}" if more else "")


def _render_row(cells: Sequence[str], strong: bool = False) -> str:
    return " & ".join(f"\\textbf{{{escape(cell)}}}" if strong and cell else escape(cell) for cell in cells) + " \\\\"


def escape(text: str) -> str:
    """Text in which no character means anything to LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in text)
