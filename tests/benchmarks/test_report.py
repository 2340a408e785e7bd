"""The report of a study of 1,000 trials: how large its page is, how long it takes to make and to open."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import needs_browser, open_page
from reported_study import write_study

from study.report.content import make_report
from study.report.html import render_html

TRIALS, EPOCHS = 1_000, 20
TITLE = "the report of a study of 1,000 trials of 20 epochs"
HEADER = ("MB", "s to make", "s to open", "s to draw all charts")
MOST_MEGABYTES, MOST_SECONDS = 10.0, 3.0
ROUNDS = 3
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
OPENED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
DRAW_ALL = "() => { for (const draw of page.charts) draw(); }"


@needs_browser
@pytest.mark.speed
@pytest.mark.timeout(600)
def test_the_report_of_a_large_study_is_small_and_opens_at_once(tmp_path: Path, add_row: Callable[..., None]) -> None:
    ledger = write_study(tmp_path / "large", TRIALS, EPOCHS)
    began = time.perf_counter()
    text = render_html([make_report(ledger)])
    made = time.perf_counter() - began
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    opened, drawn = [], []
    for _ in range(ROUNDS):
        with open_page(path) as (page, seen):
            page.evaluate(PAINTED)
            opened.append(float(page.evaluate(OPENED)))
            began = time.perf_counter()
            page.evaluate(DRAW_ALL)
            drawn.append(time.perf_counter() - began)
            assert seen.errors == []
    megabytes, seconds = path.stat().st_size / 1e6, statistics.median(opened)
    add_row(TITLE, HEADER, (f"{megabytes:.1f}", f"{made:.1f}", f"{seconds:.2f}", f"{statistics.median(drawn):.1f}"))
    assert megabytes < MOST_MEGABYTES
    assert seconds < MOST_SECONDS
