"""A report in one of its forms, and the files that a study has of it in its folder once it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from model.strict import write_atomically
from study.ledger.ledger import Ledger
from study.report.content import make_report
from study.report.html import compare_reports, render_html
from study.report.latex import render_latex
from study.report.markdown import render_markdown
from study.report.table import write_trials_table
from study.report.value import Report, to_dict, to_json

Form = Literal["html", "markdown", "latex", "json"]
ENDINGS = {"html": "html", "markdown": "md", "latex": "tex", "json": "json"}
REPORT, TRIALS = "report.html", "trials.csv"  # in a study's folder


def render(reports: Sequence[Report], form: Form) -> str:
    """One report, or two side by side, as text."""
    if form == "json":
        return render_json(reports)
    return {"html": render_html, "markdown": render_markdown, "latex": render_latex}[form](reports)


def render_json(reports: Sequence[Report]) -> str:
    """The report as JSON; two of them under `studies`, beside what they differ in."""
    if len(reports) == 1:
        return to_json(reports[0])
    content = {"studies": [to_dict(report) for report in reports]} | compare_reports(reports[0], reports[1])
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(ledger: Ledger, path: Path, form: Form = "html") -> None:
    """Write the study's report into a file; a UserError where it cannot be written."""
    write_atomically(path, render([make_report(ledger)], form))


def write_folder_files(ledger: Ledger, announce: Callable[[str], None]) -> None:
    """Write report.html and trials.csv into the study's folder. A study has ended whether or not this succeeds, so any
    failure becomes one line."""
    try:
        write_trials_table(ledger, ledger.folder / TRIALS)
        write_report(ledger, ledger.folder / REPORT)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        announce(f"the report was not written ({reason}); write it with: decred-study report {ledger.folder}")
