"""The page of fifty thousand utterances: its list draws what is in view alone, and reaches the last."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, open_page

from study.errors.content import Content, Recognition, System, Utterance
from study.errors.output import write_errors


def make_large(size: int) -> Content:
    """Two systems on many utterances, whose words, errors and lengths are given by their numbers."""
    utterances = []
    for number in range(size):
        words = [f"word{(number * 7 + place * place) % 5000}" for place in range(3 + number % 20)]
        recognitions = []
        for step in (9, 7):
            places = range(number % step, len(words), step)
            letters = "".join("S" if place in places else "C" for place in range(len(words)))
            recognised = [
                f"wrong{word[4:]}" if letter == "S" else word for word, letter in zip(words, letters, strict=True)
            ]
            recognitions.append(Recognition(" ".join(recognised), letters))
        text = " ".join(words)
        utterances.append(
            Utterance(f"u{number:06d}", "", "test", f"speaker{number % 500}", text, tuple(recognitions), 2.5)
        )
    return Content((System("A", "a", Path("a")), System("B", "b", Path("b"))), tuple(utterances))


@needs_browser
@pytest.mark.slow
def test_fifty_thousand_utterances_are_scrolled_to_the_last_and_searched(tmp_path: Path) -> None:
    content = make_large(50_000)
    path = write_errors(content, "html", tmp_path / "errors.html", "large")
    assert path.stat().st_size < 20_000_000
    with open_page(path) as (page, seen):
        page.wait_for_selector("#list[data-ready]")
        assert page.locator(".row").count() < 100
        page.select_option("#sort", "order")
        page.click("#direction")
        assert page.locator(".row header b").first.inner_text() == "u000000"
        for form in ("step", "line"):
            page.select_option("#form", form)
            page.evaluate("document.getElementById('list').scrollTop = 1e9")
            page.wait_for_selector(".row:has-text('u049999')")
            page.evaluate("document.getElementById('list').scrollTop = 1e9")
            bottom = page.locator(".row", has_text="u049999").bounding_box()
            view = page.locator("#list").bounding_box()
            assert bottom["y"] + bottom["height"] <= view["y"] + view["height"] + 2, "the last one is seen whole"
            assert page.locator(".row").count() < 100
        page.evaluate("document.getElementById('list').scrollTop /= 2")
        page.wait_for_function("!document.querySelector('#list').textContent.includes('u049999')")
        assert_no_gaps(page)
        page.select_option("#where", "id")
        page.fill("#query", "u031415")
        page.wait_for_function("document.getElementById('found').textContent.startsWith('1 of 50,000')")
        assert page.locator(".row header b").all_text_contents() == ["u031415"]
        assert seen.errors == []


def assert_no_gaps(page: Any) -> None:
    """The rows in view lie under each other without gaps, and fill the view."""
    boxes = page.evaluate(
        "[...document.querySelectorAll('.row')].map((row) => [row.offsetTop, row.offsetTop + row.offsetHeight])"
    )
    boxes.sort()
    for (_, bottom), (top, _) in itertools.pairwise(boxes):
        assert abs(bottom - top) < 1.5
    top, height = page.evaluate(
        "[document.getElementById('list').scrollTop, document.getElementById('list').clientHeight]"
    )
    assert boxes[0][0] <= top
    assert boxes[-1][1] >= top + height
