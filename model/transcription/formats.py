"""Transcripts as text, subtitles (SRT, WebVTT), tables and JSON, laid out as whisper's command line writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from model.transcription.subtitles import Layout, make_cues
from model.transcription.transcript import Segment, Transcript

Writer = Callable[[Transcript, Layout, bool], str]


def format_transcript(transcript: Transcript, name: str, layout: Layout | None = None, with_words: bool = False) -> str:
    """The content of a file in one of `FORMATS`; `with_words` adds words to JSON."""
    return FORMATS[name](transcript, layout or Layout(), with_words)


def _format_text(transcript: Transcript, layout: Layout, with_words: bool) -> str:
    return "".join(f"{segment.text}\n" for segment in transcript.segments)


def _format_srt(transcript: Transcript, layout: Layout, with_words: bool) -> str:
    return "".join(
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{_join_lines(cue.lines)}\n\n"
        for number, cue in enumerate(make_cues(transcript, layout), start=1)
    )


def _format_vtt(transcript: Transcript, layout: Layout, with_words: bool) -> str:
    segments = tuple(map(_escape_markup, transcript.segments))
    cues = "".join(
        f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{_join_lines(cue.lines)}\n\n"
        for cue in make_cues(replace(transcript, segments=segments), layout)
    )
    return f"WEBVTT\n\n{cues}"


def _format_tsv(transcript: Transcript, layout: Layout, with_words: bool) -> str:
    lines = [
        f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t{' '.join(segment.text.split())}\n"
        for segment in transcript.segments
    ]
    return "".join(["start\tend\ttext\n", *lines])


def _format_json(transcript: Transcript, layout: Layout, with_words: bool) -> str:
    content = {
        "text": transcript.text,
        "segments": [
            _segment_content(number, segment, with_words) for number, segment in enumerate(transcript.segments)
        ],
        "duration": round(transcript.seconds, 3),
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _segment_content(number: int, segment: Segment, with_words: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": number,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
    }
    if with_words:
        content["words"] = [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": round(word.confidence, 4),
                "aligned": word.is_aligned,
            }
            for word in segment.words
        ]
    return content


def _escape_markup(segment: Segment) -> Segment:
    """Text of WebVTT has tags and entities, so that the characters that begin them are written as entities."""

    def escape(text: str) -> str:
        return text.replace("-->", "->").replace("&", "&amp;").replace("<", "&lt;")

    words = tuple(replace(word, text=escape(word.text)) for word in segment.words)
    return replace(segment, text=escape(segment.text), words=words)


def milliseconds(seconds: float) -> int:
    """The nearest whole number of them."""
    return round(1000 * seconds)


def clock(seconds: float, mark: str) -> str:
    """A time of SRT (`00:01:02,345`), or of WebVTT (`01:02.345`), which leaves out hours where there are none."""
    minutes, rest = divmod(milliseconds(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours:02d}:" if hours or mark == "," else ""
    return f"{shown}{minutes:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _join_lines(lines: tuple[str, ...]) -> str:
    """Lines of a cue: an arrow would be read as the times of another one, an empty line as its end."""
    return "\n".join(" ".join(line.split()).replace("-->", "->") for line in lines)


FORMATS: dict[str, Writer] = {
    "txt": _format_text,
    "srt": _format_srt,
    "vtt": _format_vtt,
    "tsv": _format_tsv,
    "json": _format_json,
}
