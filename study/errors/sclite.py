"""NIST's trn files and the alignments of sclite's .pra.

An utterance without a speaker gets its id up to the first hyphen, or where it has none the first underscore, as sclite
takes it from ids (`-i spu_id`). Words are compared as they are written: sclite does so with its option -s.

sclite aligns with the weights 4 for a substitution and 3 for a deletion or insertion, and the metrics with 1 for each,
so of texts that can be aligned in several ways it may show another alignment, and may count more errors: where
references and hypotheses are the same, its `Err` is never below the WER here. On the same alignments the files are the
same to the byte, as the tests hold, but for words with letters beyond ASCII: sclite pads them by their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.errors import UserError
from study.errors.content import Content, Step, Utterance

HEAD = "\n\n\t\tDUMP OF SYSTEM ALIGNMENT STRUCTURE\n\n"


def find_speaker(utterance: Utterance) -> str:
    """The speaker that sclite's forms group an utterance under."""
    if utterance.speaker:
        return utterance.speaker
    separator = "-" if "-" in utterance.id else "_"
    return utterance.id.split(separator)[0]


def group_by_speaker(content: Content, system: int) -> dict[str, list[Utterance]]:
    """The utterances that a system has by speaker, in the order of their first utterances."""
    speakers: dict[str, list[Utterance]] = {}
    for utterance in content.utterances:
        if utterance.recognitions[system] is not None:
            speakers.setdefault(find_speaker(utterance), []).append(utterance)
    return speakers


def write_trn(content: Content) -> dict[str, str]:
    """File name -> text: `reference.trn`, and one file a system, by its letter.

    A UserError where an id stands twice, or is none that a trn file can hold.
    """
    seen: set[str] = set()
    for utterance in content.utterances:
        if utterance.id in seen:
            raise UserError(f"two sets have an utterance {utterance.id}, but a trn file knows no sets; give one --set")
        if set("() \t") & set(utterance.id):
            raise UserError(
                f"utterance '{utterance.id}' cannot stand in a trn file, which has ids without brackets "
                "and spaces; give another --format"
            )
        seen.add(utterance.id)
    files = {"reference.trn": "".join(f"{one.reference} ({one.id})\n" for one in content.utterances)}
    for number, system in enumerate(content.systems):
        recognised = ((one.id, one.recognitions[number]) for one in content.utterances)
        lines = (f"{recognition.hypothesis} ({key})\n" for key, recognition in recognised if recognition is not None)
        files[f"{system.letter}.trn"] = "".join(lines)
    return files


def format_pra(content: Content, system: int) -> str:
    """A system's alignments, as sclite's `-o pralign` writes them."""
    speakers = group_by_speaker(content, system)
    lines = [HEAD + f"System name:   {content.systems[system].name}\n\nSpeakers: \n"]
    lines += [f"{number:5d}:  {speaker}\n" for number, speaker in enumerate(speakers)]
    lines.append("\n")
    for number, (speaker, utterances) in enumerate(speakers.items()):
        lines.append(f"Speaker sentences{number:4d}:  {speaker}   #utts: {len(utterances)}\n")
        lines += [_format_alignment(utterance, system) for utterance in utterances]
    return "".join([*lines, "\n"])


def _format_alignment(utterance: Utterance, system: int) -> str:
    steps = utterance.steps(system)
    counts = " ".join(str(sum(step.letter == letter for step in steps)) for letter in "CSDI")
    head = f"id: ({utterance.id})\nScores: (#C #S #D #I) {counts}\nAttributes: Case_sensitve \n"
    return head + (_format_rows(steps) if steps else "") + "\n"


def _format_rows(steps: Sequence[Step]) -> str:
    """Words under each other; what lacks is a row of stars as long as the other word."""
    rows = {"REF:  ": "", "HYP:  ": "", "Eval: ": ""}
    for letter, reference, hypothesis in steps:
        width = max(len(reference), len(hypothesis))
        rows["REF:  "] += (reference or "*" * width).ljust(width) + " "
        rows["HYP:  "] += (hypothesis or "*" * width).ljust(width) + " "
        rows["Eval: "] += ("" if letter == "C" else letter).ljust(width) + " "
    return "".join(f"{name}{row}\n" for name, row in rows.items())
