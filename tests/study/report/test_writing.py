"""A report's other forms, the table of trials, and what a study leaves in its folder when it ends."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import pytest
from reported_study import read_json, write_study
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.report import app
from study.ledger.ledger import Ledger
from study.report.content import make_report
from study.report.latex import escape
from study.report.table import format_trials_table
from study.report.value import Report
from study.report.writing import render, write_folder_files, write_trials_table

SECTIONS = (
    "Verdict",
    "WER against the internal language model",
    "What was searched",
    "Importance",
    "All quantities together",
    "Trials over time",
    "Learning curves",
    "Decodings",
    "Hours",
    "What did not help",
    "How to reproduce",
)


def test_all_forms_have_the_same_sections_and_the_verdict_in_words(report: Report) -> None:
    for form, heading in (("html", "<h2>{}</h2>"), ("markdown", "## {}\n"), ("latex", "\\subsection*{{{}}}")):
        text = render([report], form)  # type: ignore[arg-type]
        places = [text.index(heading.format(title)) for title in SECTIONS]
        assert places == sorted(places)
        assert "ecred has a lower WER than ed, by" in text


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_header(report: Report) -> None:
    lines = render([report], "markdown").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    assert len(rows) > 50
    for place, line in enumerate(rows):
        if set(line) <= set("|-: ") and "-" in line:  # the rule below a header
            assert widths[place] == widths[place - 1]
            assert widths[place] == widths[place + 1]


def test_the_latex_document_closes_what_it_opens_and_has_no_bare_character(report: Report) -> None:
    text = render([report], "latex")
    opened, closed = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(opened) == sorted(closed)
    words = re.sub(r"\\begin{verbatim}.*?\\end{verbatim}", "", text.split("\\begin{document}")[1], flags=re.DOTALL)
    assert not re.findall(r"(?<!\\)[_%#$^~]", words)
    assert escape("50 % of a_b & {c}") == r"50 \% of a\_b \& \{c\}"


def test_the_table_of_trials_has_every_trial_value_and_metric(ledger: Ledger) -> None:
    rows = list(csv.DictReader(io.StringIO(format_trials_table(ledger))))
    assert [int(row["number"]) for row in rows] == list(ledger.trials)
    for row in rows:
        record = ledger.trials[int(row["number"])]
        assert row["state"] == record.state
        for name, value in record.values.items():
            assert row[f"values/{name}"] == str(value)
        for name, value in record.metrics.items():
            assert math.isclose(float(row[name]), value)


def test_a_study_that_ends_has_its_report_and_its_table(tmp_path: Path) -> None:
    ledger, lines = write_study(tmp_path / "ended", 3), list[str]()
    write_folder_files(ledger, lines.append)
    assert lines == []
    assert "Study ended" in (ledger.folder / "report.html").read_text()
    assert len((ledger.folder / "trials.csv").read_text().splitlines()) == 1 + len(ledger.trials)


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    ledger, lines = write_study(tmp_path / "ended", 3), list[str]()
    (ledger.folder / "report.html").mkdir()
    write_folder_files(ledger, lines.append)
    assert len(lines) == 1
    assert re.fullmatch(
        r"the report was not written \(UserError: .*\); write it with: decred-study report .*/ended", lines[0]
    )


def test_a_table_that_cannot_be_written_is_an_error_for_its_caller(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "trials.csv").mkdir()
    with pytest.raises(UserError, match=r"trials\.csv"):
        write_trials_table(ledger, tmp_path / "trials.csv")


def test_the_command_writes_each_form_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = write_study(tmp_path / "young", 3, confirmed=False)
    for form, name in (
        ("html", "report.html"),
        ("markdown", "report.md"),
        ("latex", "report.tex"),
        ("json", "report.json"),
    ):
        done = CliRunner().invoke(app, [str(ledger.folder), "--format", form])
        assert (done.exit_code, done.output) == (0, f"{name} written\n")
        assert Path(name).stat().st_size > 1000
    assert read_json(Path("report.json").read_text())["name"] == "young"


def test_the_command_sets_two_studies_beside_each_other(ledger: Ledger, tmp_path: Path) -> None:
    other, out = write_study(tmp_path / "other", 9, confirmed=False, trials=50), tmp_path / "beside.json"
    done = CliRunner().invoke(app, [str(ledger.folder), str(other.folder), "--format", "json", "-o", str(out)])
    assert done.exit_code == 0
    content = read_json(out.read_text())
    assert [one["name"] for one in content["studies"]] == ["planted", "other"]
    assert ["trials", "20", "50"] in content["differences"]
    assert [pair["first"] for pair in content["common"]] == list(range(9))
    assert all(pair["difference"] in (None, 0.0) for pair in content["common"])


def test_two_studies_on_a_cluster_are_refused(ledger: Ledger) -> None:
    done = CliRunner().invoke(app, [str(ledger.folder), "other", "--on", "lab"])
    assert isinstance(done.exception, UserError)
    assert "takes one; fetch each with its own --on" in str(done.exception)


def test_markdown_of_two_studies_names_each_in_every_section(report: Report, tmp_path: Path) -> None:
    other = make_report(write_study(tmp_path / "other", 3, confirmed=False))
    text = render([report, other], "markdown")
    assert text.count("### planted") == text.count("### other") == len(SECTIONS)
