"""Recorded speech to try a study on: the telephone prompts of Debian's asterisk-core-sounds-en-wav, as a table.

apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav
python -m model.data.asterisk > prompts.tsv
decred-study prepare table prompts.tsv --out corpora/prompts
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def format_prompt_rows(lines: Iterable[str], sounds: Path) -> Iterator[str]:
    """The rows of a table from lines like `activated: Activated.`, with single digits spelt out.

    Comments, remarks in brackets (`[sound of monkeys screaming]`) and longer numbers, whose spoken form is not
    known, are skipped.
    """
    yield "audio\ttext\tspeaker"
    for line in lines:
        name, colon, text = line.partition(":")
        text = re.sub(r"\b\d\b", lambda digit: DIGITS[int(digit[0])], " ".join(text.split()))
        if colon and text and not line.startswith(";") and not re.search(r"[\[(\d]", text):
            yield f"{sounds / name.strip()}.wav\t{text}\tallison"


def main() -> None:
    if not (SOUNDS.is_dir() and TRANSCRIPTS.is_file()):
        sys.exit(
            "the prompts are not installed; run: apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav"
        )
    with gzip.open(TRANSCRIPTS, "rt", encoding="utf-8") as lines:
        print(*format_prompt_rows(lines, SOUNDS), sep="\n")


if __name__ == "__main__":
    main()
