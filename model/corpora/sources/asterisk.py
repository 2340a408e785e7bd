"""Recorded speech to try a study on: the telephone prompts of Debian's asterisk-core-sounds-en-wav, as a table.

Of its dev and test sentences every word occurs in training, in other sentences.

apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav
python -m model.corpora.sources.asterisk > prompts.tsv
decred-study prepare table prompts.tsv --out corpora/prompts
"""

from __future__ import annotations

import gzip
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from model.corpora.normaliser import normalise

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TRANSCRIPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")

HELD_OUT = 80  # sentences, dev and test in turn
TRAINING_SENTENCES = 2  # that each word of a sentence that is held out is still in

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def format_prompt_rows(lines: Iterable[str], sounds: Path) -> Iterator[str]:
    """The rows of a table from lines like `activated: Activated.`, with single digits spelt out.

    Comments, remarks in brackets (`[sound of monkeys screaming]`) and longer numbers and signs, whose spoken form is
    not known, are skipped, and so are prompts without a recording.
    """
    prompts = []
    for line in lines:
        name, colon, text = line.partition(":")
        text = re.sub(r"\b\d\b", lambda digit: DIGITS[int(digit[0])], " ".join(text.split()))
        audio = sounds / f"{name.strip()}.wav"
        if colon and text and not line.startswith(";") and not re.search(r"[\[(\d*#]", text) and audio.is_file():
            prompts.append((audio, text))
    sets = choose_sets(normalise("basic", text) for _, text in prompts)
    yield "audio\ttext\tspeaker\tset"
    for audio, text in prompts:
        yield f"{audio}\t{text}\tallison\t{sets[normalise('basic', text)]}"


def choose_sets(texts: Iterable[str]) -> dict[str, str]:
    """The set of each sentence: of those of several words, some are held out whose words all stay in training."""
    sentences = set(texts)
    occurrences = Counter(word for sentence in sentences for word in set(sentence.split()))
    sets = dict.fromkeys(sentences, "train")
    held_out = 0
    for sentence in sorted(sentences, key=lambda text: hashlib.sha256(text.encode()).digest()):
        words = set(sentence.split())
        if held_out < HELD_OUT and len(words) > 1 and all(occurrences[word] > TRAINING_SENTENCES for word in words):
            sets[sentence] = "test" if held_out % 2 else "dev"
            held_out += 1
            occurrences.subtract(words)
    return sets


def main() -> None:
    if not (SOUNDS.is_dir() and TRANSCRIPTS.is_file()):
        sys.exit(
            "the prompts are not installed; run: apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav"
        )
    with gzip.open(TRANSCRIPTS, "rt", encoding="utf-8") as lines:
        print(*format_prompt_rows(lines, SOUNDS), sep="\n")


if __name__ == "__main__":
    main()
