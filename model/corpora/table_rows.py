"""Reading the rows of a table of recordings; every fault in it is an error of one line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError
from model.strict import unknown_name

REQUIRED = ("audio", "text")
COLUMNS = (*REQUIRED, "speaker", "set")
UNKNOWN_SPEAKER = "unknown"  # of tables without the column

_SETS = re.compile(r"train|dev|test(-[A-Za-z0-9._-]+)?")


@dataclass(frozen=True)
class Row:
    """A row: `audio` is absolute, `set_name` is None when the table has no such column."""

    line: int
    audio: Path
    text: str
    speaker: str
    set_name: str | None


def read_rows(table: Path) -> list[Row]:
    """The rows of a TSV file. Raises a UserError that names the line if a row is malformed or a recording repeated."""
    (header_line, header), *lines = _fields(table)
    _check_header(table, header_line, header)
    rows: list[Row] = []
    first_line: dict[Path, int] = {}
    for line, fields in lines:
        row = _row(table, line, header, fields)
        if row.audio in first_line:
            raise UserError(
                f"{table}: line {line} names {row.audio} again, after line {first_line[row.audio]}; keep one"
            )
        first_line[row.audio] = line
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
            f"{table}: line {line} is for set '{set_name}', but must be for train, dev, test or test-NAME; "
            f"{unknown_name(set_name, ('train', 'dev', 'test'))}"
        )
    audio = Path(os.path.abspath(table.parent / values["audio"]))
    return Row(line, audio, values["text"], values.get("speaker") or UNKNOWN_SPEAKER, set_name)
