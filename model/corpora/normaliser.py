"""Named text normalisers. The name is part of the metric: WERs under `basic` and under `none` do not compare.

A corpus is normalised once, when it is prepared: what is trained on, references and hypotheses are then of one kind.
"""

from __future__ import annotations

import functools
import importlib.metadata
import unicodedata
from collections.abc import Callable
from types import MappingProxyType

from model.errors import UserError
from model.strict import unknown_name

APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})


# Raised when a normaliser gives any text another form.
VERSIONS = MappingProxyType({"basic": 1, "none": 1, "whisper-english": 1})
_PACKAGES = MappingProxyType({"whisper-english": "whisper-normalizer"})  # where the rules are not in this file


@functools.lru_cache
def version_of(name: str) -> str:
    """Name and version of a normaliser, as it stands beside a WER; with the package that has its rules, if one has."""
    check_normaliser(name)
    package = _PACKAGES.get(name)
    rules = f" ({package} {importlib.metadata.version(package)})" if package else ""
    return f"{name} {VERSIONS[name]}{rules}"


def normalise(name: str, text: str) -> str:
    """`text` under the normaliser called `name`.

    Applying `basic` or `none` twice changes nothing more. Whisper's can: see `_whisper_english`.
    """
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


def _whisper_english(text: str) -> str:
    """Whisper's normaliser of English (arXiv 2212.04356, appendix C), which most published WERs of English are under.

    Words become what people write: numbers digits, contractions whole words, British spellings American ones; accents
    and what is in brackets are dropped. The package's rules are taken as they are, but for spaces at the ends, which no
    WER counts. That includes their faults: `21 st` becomes `21 saint`, `it’s` with a typographic apostrophe `it s`, and
    `and a half` alone becomes nothing.

    Applied twice it can change text again, because it drops signs and leading zeros that it wrote when it reads them:
    `minus five` becomes `-5`, then `5`; `double o seven` becomes `007`, then `7`; `...` becomes `.`, then nothing.
    """
    return str(_make_whisper_english()(text)).strip()


@functools.lru_cache(maxsize=1)
def _make_whisper_english() -> Callable[[str], str]:
    """One for this process. It is imported here because few commands need it, and it would take 40 ms from all."""
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


def _in_word(char: str) -> bool:
    """Letters, the marks that belong to them, and digits."""
    return unicodedata.category(char)[0] in "LMN"


def _inside_word(text: str, i: int) -> bool:
    return text[i] == "'" and 0 < i < len(text) - 1 and _in_word(text[i - 1]) and _in_word(text[i + 1])


NORMALISERS: MappingProxyType[str, Callable[[str], str]] = MappingProxyType(
    {"basic": _basic, "none": _none, "whisper-english": _whisper_english}
)
