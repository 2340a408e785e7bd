"""The page of a report, opened in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import NARROW, Seen, first_screen, is_wider_than_screen, needs_browser, open_page
from playwright.sync_api import Page
from reported_study import read_json, write_study

from study.ledger.ledger import Ledger
from study.report.content import make_report
from study.report.html import render_html
from study.report.value import Report, to_json

DRAW_ALL = "() => { for (const draw of page.charts) draw(); }"
NOT_DRAWN = """() => [...document.querySelectorAll(".chart")]
    .filter((one) => !one.querySelector("svg, canvas")).map((one) => one.dataset.kind)"""


@pytest.fixture(scope="module")
def page_file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html([report]), encoding="utf-8")
    return path


def check_whole_page(page: Page, seen: Seen, report: Report) -> None:
    """The first screen's words, then every chart, without an error or a look at the network."""
    text = first_screen(page)
    best = report.standings[0]
    assert "Decred has a lower WER than ed" in text
    assert f"Best trial: {best.number:04d} ({best.recipe_class}), final dev WER {best.figure:.2f}" in text
    assert "Baselines, final dev WER: ed (trial 0000)" in text
    page.evaluate(DRAW_ALL)
    assert page.evaluate(NOT_DRAWN) == []
    assert not is_wider_than_screen(page)
    assert (seen.errors, seen.requests) == ([], [])


@needs_browser
def test_the_page_is_whole_offline_and_its_charts_and_tables_obey(page_file: Path, report: Report) -> None:
    with open_page(page_file) as (page, seen):
        check_whole_page(page, seen, report)
        assert list_titles(page, "pair") == ["CTC weight", "learning rate"]
        pair = page.locator("figure:has([data-kind=pair])")
        pair.locator("select[name=x]").select_option("final_weight")
        pair.locator("select[name=y]").select_option("auxiliary.placement")
        assert list_titles(page, "pair") == ["final weight", "placement"]
        curves = page.locator("figure:has([data-kind=curves])")
        curves.locator("select[name=top]").select_option("10")
        curves.locator("select[name=axis]").select_option("log")
        assert list_titles(page, "curves") == [f"epoch (10 of {len(report.trials)} trials)", "dev WER"]
        table = page.locator("#trials table").last
        table.locator("th", has_text=re.compile("^trial$")).click()
        numbers = table.locator("tbody tr td:first-child").all_text_contents()
        assert numbers == [f"{trial.number:04d}" for trial in report.trials]
        assert seen.errors == []


@needs_browser
def test_the_page_is_whole_on_a_dark_phone(page_file: Path, report: Report) -> None:
    with open_page(page_file, NARROW, dark=True) as (page, seen):
        check_whole_page(page, seen, report)


def list_titles(page: Page, kind: str) -> list[str]:
    """The titles of the axes of a chart, x first."""
    return [str(page.locator(f"[data-kind={kind}] .{axis}title").text_content()) for axis in "xy"]


def list_numbers(content: object) -> Iterator[float]:
    """Every number in JSON."""
    if isinstance(content, int | float):
        yield float(content)
    elif isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from list_numbers(item)


def test_every_figure_of_every_table_is_in_the_json(report: Report) -> None:
    known = {digits: set[str]() for digits in range(4)}
    for number in list_numbers(read_json(to_json(report))):
        for digits, texts in known.items():
            texts.add(f"{abs(number):.{digits}f}")
    cells = re.findall(r"<td class=number>([^<]*)</td>", render_html([report]))
    figures = [cell for cell in cells if re.fullmatch(r"[+-]?\d+\.\d{1,3}", cell)]
    assert len(figures) > 100
    missing = {cell for cell in figures if cell.lstrip("+-") not in known[len(cell.split(".")[1])]}
    assert missing == set()


def test_a_name_from_a_study_file_cannot_become_a_part_of_the_page(tmp_path: Path) -> None:
    ledger = write_study(tmp_path / "young", 3, confirmed=False)
    events = (ledger.folder / "events" / "000001.jsonl").read_text()
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    (ledger.folder / "events" / "000001.jsonl").write_text(events.replace('"baseline":"ed"', f'"baseline":"{hostile}"'))
    text = render_html([make_report(Ledger.open(ledger.folder))])
    assert "<script>alert" not in text
    assert "<img" not in text


@needs_browser
@pytest.mark.parametrize(
    "trials", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_young_studies_have_a_page_that_says_what_is_not_there(tmp_path: Path, trials: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_html([make_report(write_study(tmp_path / "young", trials, confirmed=False))]))
    with open_page(path, NARROW) as (page, seen):
        page.evaluate(DRAW_ALL)
        assert page.evaluate(NOT_DRAWN) == []
        text = page.locator("body").inner_text()
        assert "No verdict yet: the question is decred against ed" in text
        assert ("No trial has started." in text) == (trials == 0)
        assert ("no importance: " in text) == (trials < 8)
        assert seen.errors == []


@needs_browser
@pytest.mark.slow
def test_two_studies_stand_side_by_side(report: Report, tmp_path: Path) -> None:
    other = make_report(write_study(tmp_path / "other", 9, confirmed=False, trials=50))
    path = tmp_path / "report.html"
    path.write_text(render_html([report, other]))
    with open_page(path) as (page, seen):
        page.evaluate(DRAW_ALL)
        assert page.evaluate(NOT_DRAWN) == []
        text = page.locator("#beside").inner_text()
        assert "trials\t20\t50" in text  # of the study files
        assert "Common trials: 9" in text
        left, right = (page.locator("#curves .beside > div").nth(side).bounding_box() for side in (0, 1))
        assert left is not None
        assert right is not None
        assert left["y"] == right["y"]
        assert seen.errors == []
