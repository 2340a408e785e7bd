"""The exact form of each format."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.transcription.formats import FORMATS, clock, format_transcript
from model.transcription.subtitles import Layout, make_cues
from model.transcription.transcript import Segment, Transcript, Word


def words(start: float, *texts: str) -> tuple[Word, ...]:
    """Words of 0.4 s, each half a second after the one before it."""
    return tuple(Word(text, start + 0.5 * place, start + 0.5 * place + 0.4, 0.5) for place, text in enumerate(texts))


def segment(start: float, *texts: str) -> Segment:
    spoken = words(start, *texts)
    return Segment(start, spoken[-1].end, " ".join(texts), spoken)


TALK = Transcript((segment(0.0624, "good", "morning"), segment(3599.9996, "<all>", "-->", "r&d")), 3605.0)
EMPTY = Transcript((), 2.0)

EXPECTED = {
    "txt": "good morning\n<all> --> r&d\n",
    "srt": ("1\n00:00:00,062 --> 00:00:00,962\ngood morning\n\n2\n01:00:00,000 --> 01:00:01,400\n<all> -> r&d\n\n"),
    "vtt": (
        "WEBVTT\n\n00:00.062 --> 00:00.962\ngood morning\n\n01:00:00.000 --> 01:00:01.400\n&lt;all> -> r&amp;d\n\n"
    ),
    "tsv": "start\tend\ttext\n62\t962\tgood morning\n3600000\t3601400\t<all> --> r&d\n",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_format_is_exactly_this(name: str) -> None:
    assert format_transcript(TALK, name) == EXPECTED[name]


def test_json_has_segments_and_where_asked_for_words() -> None:
    content = json.loads(format_transcript(TALK, "json"))
    assert content["text"] == "good morning <all> --> r&d"
    assert content["duration"] == 3605.0
    assert content["segments"][0] == {"id": 0, "start": 0.062, "end": 0.962, "text": "good morning"}
    first = json.loads(format_transcript(TALK, "json", with_words=True))["segments"][0]["words"][0]
    assert first == {"word": "good", "start": 0.062, "end": 0.462, "probability": 0.5, "aligned": True}


def test_of_silence_nothing_is_left_but_the_form() -> None:
    written = {name: format_transcript(EMPTY, name) for name in FORMATS}
    assert (written["txt"], written["srt"], written["vtt"]) == ("", "", "WEBVTT\n\n")
    assert written["tsv"] == "start\tend\ttext\n"
    assert json.loads(written["json"]) == {"text": "", "segments": [], "duration": 2.0}


def test_tabs_and_line_breaks_in_text_do_not_break_a_table_or_a_cue() -> None:
    odd = Transcript((Segment(0.0, 1.0, "a\tb\n\nc", ()),), 1.0)
    assert format_transcript(odd, "tsv") == "start\tend\ttext\n0\t1000\ta b c\n"
    assert format_transcript(odd, "srt") == "1\n00:00:00,000 --> 00:00:01,000\na b c\n\n"


@given(st.floats(0, 360_000))
def test_a_clock_is_the_nearest_millisecond(seconds: float) -> None:
    hours, minutes, rest = clock(seconds, ",").split(":")
    whole, part = rest.split(",")
    shown = 3_600_000 * int(hours) + 60_000 * int(minutes) + 1000 * int(whole) + int(part)
    assert shown == round(1000 * seconds)
    assert int(minutes) < 60
    assert int(whole) < 60
    assert clock(seconds, ".") == clock(seconds, ",").replace(",", ".").removeprefix("00:" if shown < 3_600_000 else "")


def test_lines_hold_as_many_words_as_fit_and_cues_as_many_lines() -> None:
    talk = Transcript((segment(0.0, "a", "bb", "incomprehensibilities", "c", "d"),), 9.0)
    cues = make_cues(talk, Layout(line_width=4, line_count=2))
    assert [cue.lines for cue in cues] == [("a bb", "incomprehensibilities"), ("c d",)]
    assert [(cue.start, cue.end) for cue in cues] == [(0.0, pytest.approx(1.4)), (1.5, pytest.approx(2.4))]
    assert [cue.lines for cue in make_cues(talk, Layout(line_width=4))] == [("a bb", "incomprehensibilities", "c d")]
    assert [cue.lines for cue in make_cues(talk, Layout(cue_words=3))] == [("a bb incomprehensibilities",), ("c d",)]


@given(
    st.lists(st.text("abc&<", min_size=1, max_size=9), min_size=1, max_size=20), st.integers(1, 20), st.integers(1, 3)
)
def test_cues_hold_each_word_once_in_order(texts: list[str], width: int, count: int) -> None:
    talk = Transcript((segment(0.0, *texts),), 20.0)
    for layout in (Layout(width, count), Layout(cue_words=width), Layout(width)):
        cues = make_cues(talk, layout)
        assert " ".join(" ".join(cue.lines) for cue in cues).split() == texts
        assert all(first.end <= second.start for first, second in pairwise(cues))
        if layout.line_width:
            assert all(len(line) <= width or " " not in line for cue in cues for line in cue.lines)


def test_each_word_is_underlined_while_it_is_spoken() -> None:
    talk = Transcript((segment(0.0, "a", "b<"),), 1.0)
    shown = [(cue.start, cue.end, *cue.lines) for cue in make_cues(talk, Layout(highlight=True))]
    assert shown == [(0.0, 0.4, "<u>a</u> b<"), (0.4, 0.5, "a b<"), (0.5, 0.9, "a <u>b<</u>")]
    assert "a <u>b&lt;</u>" in format_transcript(talk, "vtt", Layout(highlight=True))


def test_limits_that_say_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="at most 2 lines in a cue says nothing without their width; give the width"):
        Layout(line_count=2)
    with pytest.raises(UserError, match="limited by the width of lines or by their number of words; give one of the"):
        Layout(line_width=40, cue_words=3)
