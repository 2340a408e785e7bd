"""A table of utterances: a TSV file with the columns audio and text, and optionally others.

`audio` is a path, absolute or relative to the table's folder; `start` and `end` are a stretch of it in seconds,
`channel` one of its channels, from 0. `set` is train, dev, test or such a name with an ending (`test-phone`); `ood` or
`out` in it makes a dev or test set out of domain. Without that column, speakers or sentences are divided 80 / 10 / 10.
`id` is by default the line's number and the file's name.
"""

from __future__ import annotations

import re
from pathlib import Path

from model.corpora.source import AudioRef, Segment, Source
from model.corpora.sources.names import plain_name
from model.corpora.sources.table_rows import Row, read_rows


def read_table(table: Path) -> Source:
    """The rows of a table. Raises a UserError that names the line where one is malformed, or an utterance repeated."""
    segments = [_segment(row) for row in read_rows(table)]
    return Source(plain_name(table.stem), f"table {table.name}", segments, files=(str(table.absolute()),))


def _segment(row: Row) -> Segment:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", row.audio.stem)[:80]
    audio = AudioRef(str(row.audio), channel=row.channel, start=row.start, end=row.end)
    id = row.id or f"{row.line:06d}-{stem}"
    return Segment(f"line {row.line}", id, row.text, audio, row.speaker, row.set_name)
