"""What every page is made of: one file, its numbers inside, nothing in them that could become a part of the page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from browser import needs_browser, open_page
from hypothesis import given
from hypothesis import strategies as st

from study.pages.page import DATA_ID, Page, dump_for_html, render_page, replace_non_finite
from study.pages.palette import CLASSES, EDITS, STATES, describe_palette

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_data_comes_back_from_the_page_and_ends_no_element(value: Any) -> None:
    text = dump_for_html({"value": value})
    assert not re.search("[<>&]", text)
    assert json.loads(text) == {"value": replace_non_finite(value)}


@given(st.floats())
def test_only_numbers_that_are_not_finite_become_null(value: float) -> None:
    expected = value if math.isfinite(value) else None
    assert replace_non_finite([value, {"a": (value,)}]) == [expected, {"a": [expected]}]


def test_a_page_loads_nothing_from_anywhere() -> None:
    text = render_page(Page("A & B", "<p>text</p>", {"a": 1}, charts=True))
    head = text.split("<script")[0]
    assert "<title>A &amp; B</title>" in head
    assert not re.search(r"(src|href)=[\"']?https?:", head)
    assert not re.search(r"<script[^>]*\ssrc=", text)
    assert f'id="{DATA_ID}">{{"a":1}}</script>' in text


def test_things_that_stand_in_one_chart_differ_in_more_than_colour() -> None:
    assert len({look.symbol for look in CLASSES.values()}) == len(CLASSES)
    assert len({look.dash for look in CLASSES.values()}) == len(CLASSES)
    assert len({look.light for look in CLASSES.values()}) == len(CLASSES)
    assert describe_palette().keys() == {"classes", "states", "edits"}
    assert len(STATES) == 7
    assert len({look.light for look in EDITS.values()}) == 3


@needs_browser
def test_tables_are_sorted_by_a_click_numbers_as_numbers(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in (("b", "10"), ("a", "9"), ("c", "–")))
    head = '<tr><th data-sort="text">n</th><th data-sort="number">v</th></tr>'
    body = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    path = tmp_path / "page.html"
    path.write_text(render_page(Page("table", body)), encoding="utf-8")
    with open_page(path) as (page, seen):
        names = page.locator("td:first-child")
        page.locator("th").nth(1).click()
        assert names.all_text_contents() == ["a", "b", "c"]
        page.locator("th").nth(1).press("Enter")
        assert names.all_text_contents() == ["b", "a", "c"]  # what has no figure comes last either way
        page.locator("th").nth(0).click()
        assert names.all_text_contents() == ["a", "b", "c"]
        assert seen.errors == []
