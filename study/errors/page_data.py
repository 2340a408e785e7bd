"""What the page of the error browser reads: every text once, alignments as short codes, all lists by utterance.

A code is words with spaces between: a number is that many right words, `-` a deletion, `~word` a substitution, `+word`
an insertion. With the reference it is the whole alignment, and the hypothesis.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.errors.content import Content, Recognition, Utterance
from study.errors.summary import summarise_sets
from study.errors.tables import describe_group, list_columns
from study.pages.palette import EDITS

ID = "*"  # stands for the utterance's id in the name of its audio file


def make_page_data(content: Content, out: Path, embedded: Mapping[int, str] | None = None) -> dict[str, Any]:
    """The page's data; `out` is the file that the page becomes, which its links to audio start from.

    `embedded` has the audio of utterances by their index as data: URIs, instead of links.
    """
    utterances = content.utterances
    sets = list(dict.fromkeys(one.set_name for one in utterances))
    speakers = sorted({one.speaker for one in utterances})
    of_set, of_speaker = ({name: index for index, name in enumerate(names)} for names in (sets, speakers))
    letters = [system.letter for system in content.systems]
    return {
        "systems": [{"letter": system.letter, "name": system.name} for system in content.systems],
        "summary": [describe_group(group) for group in summarise_sets(content)],
        "columns": list_columns(letters),
        "sets": sets,
        "speakers": speakers,
        "ids": [one.id for one in utterances],
        "set": [of_set[one.set_name] for one in utterances],
        "speaker": [of_speaker[one.speaker] for one in utterances],
        "seconds": [None if one.seconds is None else round(one.seconds, 2) for one in utterances],
        "reference": [one.reference for one in utterances],
        "codes": [[encode(one, system) for one in utterances] for system in range(len(content.systems))],
        "audio": None if embedded is not None else _link_audio(utterances, out),
        "embedded": None if embedded is None else {str(index): uri for index, uri in embedded.items()},
        "palette": {name: look._asdict() for name, look in EDITS.items()},
    }


def encode(utterance: Utterance, system: int) -> str | None:
    """The alignment of a system as a code; None where it lacks the utterance."""
    if utterance.recognitions[system] is None:
        return None
    code: list[str] = []
    right = 0
    for letter, _, hypothesis in utterance.steps(system):
        if letter == "C":
            right += 1
            continue
        code += [str(right)] if right else []
        right = 0
        code.append({"S": "~", "I": "+", "D": "-"}[letter] + hypothesis)
    return " ".join([*code, str(right)] if right else code)


def decode(reference: str, code: str) -> Recognition:
    """The recognition that a code says."""
    words = iter(reference.split())
    hypothesis: list[str] = []
    letters = ""
    for part in code.split(" ") if code else ():
        kind, word = part[0], part[1:]
        if kind in "~+":
            hypothesis.append(word)
        if kind in "~-":
            next(words)
        elif kind != "+":
            hypothesis += [next(words) for _ in range(int(part))]
            letters += "C" * int(part)
        letters += {"~": "S", "+": "I", "-": "D"}.get(kind, "")
    return Recognition(" ".join(hypothesis), letters)


def _link_audio(utterances: Sequence[Utterance], out: Path) -> dict[str, Any] | None:
    """Where the audio lies: folders, by their path relative to the page and by their own; file, start and end by
    utterance, None for start and end where it is a whole file."""
    if all(one.audio is None for one in utterances):
        return None
    folders: dict[str, int] = {}
    rows: dict[str, list[Any]] = {"folder": [], "name": [], "start": [], "end": []}
    for one in utterances:
        audio = one.audio
        if audio is None:
            row: tuple[Any, ...] = (-1, "", None, None)
        else:
            path = Path(audio.file)
            number = folders.setdefault(str(path.parent), len(folders))
            name = path.name.replace(one.id, ID, 1) if ID not in path.name else path.name
            row = (number, name, *_shorten_stretch(one))
        for column, value in zip(rows.values(), row, strict=True):
            column.append(value)
    start = out.resolve().parent
    links = [{"near": Path(os.path.relpath(path, start)).as_posix(), "far": Path(path).as_uri()} for path in folders]
    return {"folders": links} | rows


def _shorten_stretch(utterance: Utterance) -> tuple[float | None, float | None]:
    """Start and end in seconds; None where the file is played from its start, and to its end."""
    audio = utterance.audio
    assert audio is not None
    assert utterance.seconds is not None
    is_whole = audio.start == 0.0 and (audio.end is None or abs(audio.end - utterance.seconds) < 0.01)
    return (None, None) if is_whole else (round(audio.start, 3), None if audio.end is None else round(audio.end, 3))
