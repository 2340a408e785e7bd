"""Reading the rows of a table of utterances; every fault in it is an error of one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError
from model.strict import unknown_name

REQUIRED = ("audio", "text")
COLUMNS = (*REQUIRED, "speaker", "set", "start", "end", "channel", "id")

CHANNEL_DIGITS = 4
SHOWN_CHARACTERS = 40  # of a value that is refused

_SETS = re.compile(r"(train|dev|test)(-[A-Za-z0-9._-]+)?")


@dataclass(frozen=True)
class Row:
    """A row: `audio` is absolute; what the table has no column for, or leaves empty, is None."""

    line: int
    audio: Path
    text: str
    speaker: str | None
    set_name: str | None
    start: float
    end: float | None
    channel: int | None
    id: str | None


def read_rows(table: Path) -> list[Row]:
    """The rows of a TSV file. Raises a UserError that names the line if a row is malformed or an utterance repeated."""
    (header_line, header), *lines = _fields(table)
    _check_header(table, header_line, header)
    rows: list[Row] = []
    first_line: dict[tuple[Path, float, float | None, int | None], int] = {}
    for line, fields in lines:
        row = _row(table, line, header, fields)
        audio = row.audio, row.start, row.end, row.channel
        if audio in first_line:
            raise UserError(f"{table}: line {line} names {row.audio} again, after line {first_line[audio]}; keep one")
        first_line[audio] = line
        rows.append(row)
    return rows


def _fields(table: Path) -> list[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank: the header and at least one row."""
    try:
        content = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror}); give the path of a TSV file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    numbered = enumerate(content.split("\n"), start=1)
    lines = [(number, [part.strip() for part in line.split("\t")]) for number, line in numbered if line.strip()]
    if len(lines) < 2:
        raise UserError(f"{table}: is empty; give a header line ({', '.join(COLUMNS)}) and a row for each recording")
    return lines


def _check_header(table: Path, line: int, header: list[str]) -> None:
    for column in header:
        if column not in COLUMNS:
            raise UserError(
                f"{table}: unknown column '{column}' in line {line}; {unknown_name(column, COLUMNS)} "
                "(columns are separated by tabs)"
            )
        if header.count(column) > 1:
            raise UserError(f"{table}: column '{column}' appears {header.count(column)} times; keep one")
    for column in REQUIRED:
        if column not in header:
            raise UserError(f"{table}: column '{column}' is missing in line {line}; add it to the header and each row")


def _row(table: Path, line: int, header: list[str], fields: list[str]) -> Row:
    if len(fields) != len(header):
        raise UserError(
            f"{table}: line {line} has {len(fields)} fields, but the header has {len(header)}; separate them by tabs"
        )
    values = dict(zip(header, fields, strict=True))
    if not values["audio"]:
        raise UserError(f"{table}: line {line} names no audio file; fill in its 'audio' field")
    set_name = values.get("set")
    if set_name is not None and not _SETS.fullmatch(set_name):
        raise UserError(
            f"{table}: line {line} is for set '{set_name}', but must be for train, dev or test, or such a name with an "
            f"ending, test-NAME; {unknown_name(set_name, ('train', 'dev', 'test'))}"
        )
    start, end = _seconds(table, line, values, "start"), _seconds(table, line, values, "end")
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{table}: line {line} ends at {end:g} s, but must end after its start, {start or 0.0:g} s")
    return Row(
        line=line,
        audio=Path(os.path.abspath(table.parent / values["audio"])),
        text=values["text"],
        speaker=values.get("speaker") or None,
        set_name=set_name,
        start=start or 0.0,
        end=end,
        channel=_channel(table, line, values),
        id=values.get("id") or None,
    )


def _seconds(table: Path, line: int, values: Mapping[str, str], column: str) -> float | None:
    given = values.get(column)
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise UserError(
            f"{table}: line {line} has {column} '{_short(given)}', but must have seconds, as 12.5, or nothing"
        )
    return seconds


def _channel(table: Path, line: int, values: Mapping[str, str]) -> int | None:
    given = values.get("channel")
    if not given:
        return None
    if not given.isdecimal() or len(given) > CHANNEL_DIGITS:
        raise UserError(
            f"{table}: line {line} has channel '{_short(given)}', but must have 0, 1, ... or nothing for their mean"
        )
    return int(given)


def _short(value: str) -> str:
    return value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}..."
