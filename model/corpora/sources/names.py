"""Names that a source has for things: of corpora and sets, and paths that are relative to one of several folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path


def plain_name(name: str) -> str:
    """The name as a corpus or set may have it: letters, digits, `.`, `_` and `-`, and no such sign at its start."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-") or "corpus"


def locate(name: str, folders: Iterable[Path]) -> str:
    """The absolute path of a file that is named relative to one of `folders`: the first that has it, or the first."""
    paths = [os.path.abspath(folder / name) for folder in folders]
    return next((path for path in paths if os.path.isfile(path)), paths[0])
