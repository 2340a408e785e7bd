"""The page of the error browser, in a real browser: what it shows first, sorts, filters, counts and saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import NARROW, first_screen, is_wider_than_screen, needs_browser, open_page
from hypothesis import given
from hypothesis import strategies as st

from study.errors.content import Content, Recognition, Utterance
from study.errors.output import write_errors
from study.errors.page_data import decode, encode, make_page_data
from study.errors.tables import dump_csv, to_json
from study.verdict.alignment import align_words

WORDS = st.sampled_from(["a", "b", "+", "-", "~x", "12", "אב", "<b>"])
TEXTS = st.lists(WORDS, max_size=8).map(" ".join)
KINDS = {"confusions": "pairs", "insertions": "insertions", "deletions": "deletions"}


@given(TEXTS, TEXTS)
def test_the_code_of_an_alignment_with_the_reference_is_the_whole_alignment(reference: str, hypothesis: str) -> None:
    recognition = Recognition(hypothesis, align_words(reference, hypothesis))
    code = encode(Utterance("u", "", "", "", reference, (recognition, None)), 0)
    assert code is not None
    assert decode(reference, code) == recognition


def test_a_texts_correct_words_stand_once_in_the_page(two_systems: Content, tmp_path: Path) -> None:
    data = make_page_data(two_systems, tmp_path / "errors.html")
    assert data["codes"][0][:3] == ["1 - 2", "2 ~sheet 3 +please", "4"]
    assert data["codes"][1][0] == "4"
    page = write_errors(two_systems, "html", tmp_path / "errors.html", "two").read_text()
    assert page.count("turn the light on") == 1
    assert "<script>window.hit" not in page
    assert "</b> & <b>" not in page


@contextmanager
def shown(content: Content, folder: Path) -> Iterator[Any]:
    """The page of a content in a browser; an error in its console, or a request to the network, is one of the test."""
    path = write_errors(content, "html", folder / "errors.html", "two systems")
    with open_page(path) as (page, seen):
        page.wait_for_selector("#list[data-ready]")
        yield page
        assert seen.errors == []
        assert seen.requests == []


def read_ids(page: Any) -> list[str]:
    """The utterances from top to bottom, all of which are drawn on pages of a few."""
    ids = page.evaluate("list.rows().map((index) => page.data.ids[index])")
    drawn = page.locator("#list .row header b").all_text_contents()
    assert sorted(drawn) == sorted(ids)
    return list(ids)


@needs_browser
def test_the_first_screen_has_systems_figures_and_the_first_utterances(two_systems: Content, tmp_path: Path) -> None:
    with shown(two_systems, tmp_path) as page:
        text = first_screen(page)
        for expected in ("first", "second", "6 utterances", "−35.71", "28.57", "64.29", "in-anna-2", "sheet", "please"):
            assert expected in text, expected
        assert page.locator("#summary tbody tr").all_text_contents()[0] == "in28.5764.29−35.71112261144"
        assert not is_wider_than_screen(page)
        assert page.evaluate("window.hit") is None, "texts are never run"
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        assert not is_wider_than_screen(page)
        assert "−35.71" in first_screen(page)


@needs_browser
def test_wrong_words_have_forms_of_their_own_beside_their_colours(two_systems: Content, tmp_path: Path) -> None:
    with shown(two_systems, tmp_path) as page:
        row = page.locator(".row", has_text="in-anna-2")
        assert "→sheet" in row.inner_text()
        assert "+please" in row.inner_text()
        decoration = "(element) => getComputedStyle(element).textDecorationLine"
        assert row.locator(".place .D").first.evaluate(decoration) == "line-through"
        assert row.locator(".place .I .hyp").evaluate(decoration) == "underline"
        colours = {row.locator(f".place .{kind}").first.evaluate("(e) => getComputedStyle(e).color") for kind in "SDI"}
        assert len(colours) == 3
        page.select_option("#form", "line")
        lines = page.locator(".row", has_text="in-anna-2").locator(".line").all_inner_texts()
        assert " ".join(lines[0].split()) == "A book a (seat→sheet) in the train (*→please)"
        assert lines[1].count("→*)") == 6
        right = page.locator(".row", has_text="out-carl-1").locator("> div")
        assert right.get_attribute("dir") == "rtl"
        assert "(עולם←טוב)" in right.inner_text()
        assert page.locator(".row img, .row script").count() == 0


@needs_browser
def test_it_sorts_and_filters_and_its_csv_has_what_is_shown(two_systems: Content, tmp_path: Path) -> None:
    with shown(two_systems, tmp_path) as page:
        page.select_option("#sort", "order")
        page.click("#direction")
        assert read_ids(page) == [utterance.id for utterance in two_systems.utterances]
        assert page.evaluate("controls.makeCsv(list.rows())") == dump_csv(two_systems)
        page.select_option("#sort", "difference")
        assert read_ids(page)[0] == "in-anna-2"
        assert read_ids(page)[-1] == "in-ben-2", "what has no WER comes last"
        page.click("#direction")
        assert read_ids(page)[0] == "in-anna-1"
        page.select_option("#show", "differ")
        assert sorted(read_ids(page)) == ["in-anna-1", "in-anna-2", "in-ben-1"]
        page.select_option("#show", "first")
        assert sorted(read_ids(page)) == ["in-anna-2", "in-ben-1"]
        page.click("#clear")
        page.select_option("#set", label="out")
        page.select_option("#speaker", label="carl")
        assert read_ids(page) == ["out-carl-1"]
        assert "1 of 6 utterances" in page.locator("#found").inner_text()
        with page.expect_download() as download:
            page.click("#csv")
        header, row = Path(download.value.path()).read_text().splitlines()
        assert header.split(",")[0] == "id"
        assert row.startswith("out-carl-1,out,carl,,3,")


@needs_browser
def test_words_are_searched_and_a_confusion_filters(two_systems: Content, tmp_path: Path) -> None:
    def search(page: Any, query: str, where: str) -> list[str]:
        page.select_option("#where", where)
        page.fill("#query", query)
        page.wait_for_function("document.getElementById('found').textContent.includes('utterances')")
        page.evaluate("controls.apply()")
        return sorted(read_ids(page))

    with shown(two_systems, tmp_path) as page:
        assert search(page, "the", "any") == ["in-anna-1", "in-anna-2"]
        assert search(page, "THE light", "reference") == ["in-anna-1"]
        assert search(page, "the", "error") == ["in-anna-1", "in-anna-2"], "both systems lose one somewhere"
        assert search(page, "sheet", "hypothesis") == ["in-anna-2"]
        assert search(page, "she", "hypothesis") == []
        assert search(page, "ben", "id") == ["in-ben-1", "in-ben-2", "out-ben-3"]
        page.click("#clear")
        page.click("#table tbody tr:has-text('sheet')")
        assert read_ids(page) == ["in-anna-2"]
        assert page.locator(".chip").inner_text() == "confusion: seat → sheet ×"
        assert page.locator(".row mark").all_text_contents().count("sheet") == 1
        page.click(".chip")
        assert len(read_ids(page)) == 6


@needs_browser
def test_the_word_tables_are_those_of_the_json_form(two_systems: Content, tmp_path: Path) -> None:
    expected = to_json(two_systems)
    with shown(two_systems, tmp_path) as page:
        for system, about in enumerate(expected["systems"]):
            for kind in KINDS.values():
                table = page.evaluate(f"[...store.countErrors(store.indices, {system}, '{kind}')]")
                assert dict(table) == {" ".join(row[:-1]): row[-1] for row in about[kind]}
            words = dict(page.evaluate(f"[...store.countWords(store.indices, {system})]"))
            names = {"falsely": "falsely_recognised"}
            for row in about["words"]:
                entry = words.pop(row["word"])
                assert entry == {name: row[names.get(name, name)] for name in entry}
            assert words == {}
        page.click("#tabs button:has-text('speakers')")
        rows = page.locator("#table tbody tr").all_inner_texts()
        assert sorted(row.split("\t")[0] for row in rows) == [one["name"] for one in expected["speakers"]]
        assert "ben\t3\t7\t57.1\t85.7" in rows
        page.click("#tabs button:has-text('words')")
        assert page.locator("#table th").all_inner_texts() == ["word", "errors", "right", "in ref", "in hyp"]
