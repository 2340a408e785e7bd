"""Recorded speech of two voices: the Dutch dialogues of the game Fish Fillets, 91 minutes, as a table.

Of its dev and test sentences every word is heard in training, in other sentences.

apt-get install fillets-ng-data fillets-ng-data-nl
python -m model.data.fillets > dialogues.tsv
decred-study prepare table dialogues.tsv --out corpora/dialogues
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from model.data.held_out import choose_sets
from model.data.normaliser import normalise

GAME = Path("/usr/share/games/fillets-ng")
LANGUAGE = "nl"
HELD_OUT = 160  # sentences, dev and test in turn

# dialogId("let-m-oko", "font_small", "Can you see that eye?") and behind it dialogStr("Zie je dat oog?"); the font is
# that of the one who speaks.
_STRING = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(rf"dialogId\({_STRING},\s*{_STRING},\s*{_STRING}\)\s*dialogStr\({_STRING}\)")


def format_dialogue_rows(game: Path) -> Iterator[str]:
    """The rows of a table of all lines that are recorded, level by level.

    Digits and signs, whose spoken form is not known, and lines without a recording are skipped.
    """
    lines = []
    for script in sorted((game / "script").glob(f"*/dialogs_{LANGUAGE}.lua")):
        for name, font, _, text in _LINE.findall(script.read_text(encoding="utf-8")):
            audio = game / "sound" / script.parent.name / LANGUAGE / f"{name}.ogg"
            if audio.is_file() and not re.search(r"[\d\\*#\[(\t]", text):
                lines.append((audio, " ".join(text.split()), font.removeprefix("font_")))
    sets = choose_sets((normalise("basic", text) for _, text, _ in lines), HELD_OUT)
    yield "audio\ttext\tspeaker\tset"
    for audio, text, speaker in lines:
        yield f"{audio}\t{text}\t{speaker}\t{sets[normalise('basic', text)]}"


def main() -> None:
    if not (GAME / "script").is_dir() or not any((GAME / "sound").glob(f"*/{LANGUAGE}")):
        sys.exit("the dialogues are not installed; run: apt-get install fillets-ng-data fillets-ng-data-nl")
    print(*format_dialogue_rows(GAME), sep="\n")


if __name__ == "__main__":
    main()
