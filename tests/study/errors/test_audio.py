"""Audio on the page: played where it lies, put inside it, or left out."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from browser import needs_browser, open_page

from model.corpora.corpus import Corpus
from model.corpora.source import AudioRef
from model.errors import UserError
from study.errors.content import Content, Recognition, System, Utterance
from study.errors.output import embed_audio, write_errors
from study.errors.page_data import make_page_data
from study.verdict.alignment import align_words


@pytest.fixture
def recorded(corpus: Corpus) -> Content:
    """An utterance of the corpus, half a second out of it, and one whose file is gone."""
    entry = next(corpus.entries("test-in"))
    recognitions = (Recognition(entry.text, align_words(entry.text, entry.text)),)
    seconds = entry.samples / 16000
    whole = Utterance("whole", "", "test-in", "s", entry.text, recognitions, seconds, entry.audio)
    part = replace(whole, id="part", seconds=0.5, audio=replace(entry.audio, start=0.25, end=0.75))
    gone = replace(whole, id="gone", audio=AudioRef("/nowhere/gone.flac", end=seconds))
    return Content((System("A", "a", Path("a")),), (whole, part, gone))


@needs_browser
def test_audio_is_played_where_it_lies_and_a_lack_of_it_is_said(recorded: Content, tmp_path: Path) -> None:
    path = write_errors(recorded, "html", tmp_path / "errors.html", "audio")
    with open_page(path) as (page, seen):
        page.click("button[aria-label='play whole']")
        page.wait_for_function("document.getElementById('audio').duration > 0")
        duration = page.evaluate("document.getElementById('audio').duration")
        assert duration == pytest.approx(recorded.utterances[0].seconds, abs=0.1)
        page.click("button[aria-label='play part']")
        page.wait_for_function("document.getElementById('audio').currentTime >= 0.25")
        page.wait_for_function("document.getElementById('audio').paused")
        assert page.evaluate("document.getElementById('audio').currentTime") >= 0.74
        assert seen.errors == []
        page.click("button[aria-label='play gone']")
        page.wait_for_function("document.getElementById('audio-error').textContent")
        message = page.locator("#audio-error").inner_text()
        assert message.startswith(
            "The audio cannot be loaded from file:///nowhere/gone.flac: open this page on a machine"
        )


def test_links_start_where_the_page_is_and_audio_can_be_inside_it_or_left_out(
    recorded: Content, tmp_path: Path
) -> None:
    folder = Path(recorded.utterances[0].audio.file).parent  # type: ignore[union-attr]
    audio = make_page_data(recorded, tmp_path / "pages" / "errors.html")["audio"]
    assert (tmp_path / "pages" / audio["folders"][0]["near"]).resolve() == folder
    assert audio["folders"][0]["far"] == folder.as_uri()
    assert (audio["start"], audio["end"]) == ([None, 0.25, None], [None, 0.75, None])
    some = replace(recorded, utterances=recorded.utterances[:2])
    for index, uri in embed_audio(some).items():
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.removeprefix("data:audio/flac;base64,"))))
        assert len(samples) / rate == pytest.approx(some.utterances[index].seconds, abs=1e-3)
    text = write_errors(some, "html", tmp_path / "none.html", "none", "none").read_text()
    assert '"audio":null' in text
    assert folder.name + "/" not in text


def test_audio_that_cannot_be_embedded_is_refused(recorded: Content) -> None:
    with pytest.raises(UserError, match=r"/nowhere/gone.flac: .*, so gone cannot be embedded; use --audio link"):
        embed_audio(recorded)
    long = replace(recorded, utterances=(replace(recorded.utterances[0], seconds=1000.0),))
    with pytest.raises(
        UserError, match="was given 1000 s of audio, but a page holds at most 900 s; choose fewer utter"
    ):
        embed_audio(long)
    silent = replace(recorded, utterances=(replace(recorded.utterances[0], audio=None),))
    with pytest.raises(UserError, match="no utterance's audio is known; name the corpus with --corpus"):
        embed_audio(silent)
