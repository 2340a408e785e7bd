"""Named text normalisers. The name is part of the metric: WERs under `basic` and under `none` do not compare."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from types import MappingProxyType

from model.errors import UserError
from model.strict import unknown_name

APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})


VERSIONS = MappingProxyType({"basic": 1, "none": 1})  # raised when a normaliser gives any text another form


def version_of(name: str) -> str:
    """Name and version of a normaliser, as it stands beside a WER."""
    return f"{name} {VERSIONS[name]}"


def normalise(name: str, text: str) -> str:
    """`text` under the normaliser called `name`; applying it twice changes nothing more."""
    check_normaliser(name)
    return NORMALISERS[name](text)


def check_normaliser(name: str) -> None:
    """Raise a UserError with the nearest known name unless `name` is a normaliser."""
    if name not in NORMALISERS:
        raise UserError(f"normaliser '{name}' is unknown; {unknown_name(name, NORMALISERS)}")


def _basic(text: str) -> str:
    """Unicode NFKC, lower case, no punctuation but apostrophes inside words, single spaces.

    Punctuation separates words (`twenty-one` becomes `twenty one`): joined, they would make words that do not exist.
    """
    visible = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    # Lowering can undo the composition (a dotted capital I becomes two characters), so it is composed once more.
    lowered = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).lower()).translate(APOSTROPHES)
    kept = [char if _in_word(char) or _inside_word(lowered, i) else " " for i, char in enumerate(lowered)]
    return " ".join("".join(kept).split())


def _none(text: str) -> str:
    return text


def _in_word(char: str) -> bool:
    """Letters, the marks that belong to them, and digits."""
    return unicodedata.category(char)[0] in "LMN"


def _inside_word(text: str, i: int) -> bool:
    return text[i] == "'" and 0 < i < len(text) - 1 and _in_word(text[i - 1]) and _in_word(text[i + 1])


NORMALISERS: MappingProxyType[str, Callable[[str], str]] = MappingProxyType({"basic": _basic, "none": _none})
