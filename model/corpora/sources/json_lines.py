"""Files of JSON lines, compressed or not, whose faults are errors of one line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz")


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The items of a file, each with its place: file and line. Raises a UserError where it cannot be read."""
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: is no manifest by its name; give a file that ends with {' or '.join(SUFFIXES)}")
    if path.exists() and not path.is_file():  # to open a pipe would wait for who writes to it
        raise UserError(f"{path}: is no file; give the path of a whole manifest")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{path.name} line {number}", _parse(path, number, line)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); give the path of a whole manifest") from None


def read_first(path: Path) -> dict[str, Any]:
    """The first item of a file. Raises a UserError where it has none."""
    for _, item in read_lines(path):
        return item
    raise UserError(f"{path}: is empty; give a manifest that has items, or leave it out")


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not JSON ({error}); write it with lhotse again") from None
    if not isinstance(item, dict):
        raise UserError(f"{path}: line {number} is no JSON object, but {str(item)[:40]!r}; write it with lhotse again")
    return item
