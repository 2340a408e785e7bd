"""The error browser's content as JSON, which has every number of the page, and as CSV, a row an utterance."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from study.errors.content import Content, Utterance, compute_difference, compute_wer
from study.errors.summary import (
    Figures,
    Group,
    WordTables,
    count_words,
    order_counts,
    summarise_sets,
    summarise_speakers,
)


def to_json(content: Content) -> dict[str, Any]:
    """Systems, sets, speakers, words, confusion pairs, insertions, deletions and all utterances with their alignments.

    WERs are percent, None where no reference has a word; an alignment is a list of [letter, reference, hypothesis].
    """
    systems = []
    for number, system in enumerate(content.systems):
        tables = count_words(content.utterances, number)
        about = {"letter": system.letter, "name": system.name, "path": str(system.path)}
        systems.append(about | {"settings": dict(system.settings)} | describe_words(tables))
    return {
        "systems": systems,
        "notes": list(content.notes),
        "sets": [describe_group(group) for group in summarise_sets(content)],
        "speakers": [describe_group(group) for group in summarise_speakers(content)],
        "utterances": [_describe_utterance(utterance, len(content.systems)) for utterance in content.utterances],
    }


def describe_group(group: Group) -> dict[str, Any]:
    """A set or a speaker, with the figures of each system."""
    return {
        "name": group.name,
        "utterances": group.utterances,
        "seconds": group.seconds,
        "systems": [_describe_figures(figures) for figures in group.systems],
        "difference": group.difference,
    }


def _describe_figures(figures: Figures) -> dict[str, Any]:
    return {"utterances": figures.utterances, "wrong": figures.wrong} | _describe_edits(figures.edits)


def _describe_edits(edits: Any) -> dict[str, Any]:
    return {
        "wer": compute_wer(edits),
        "S": edits.substitutions,
        "D": edits.deletions,
        "I": edits.insertions,
        "N": edits.length,
    }


def describe_words(tables: WordTables) -> dict[str, Any]:
    """The word tables; words with the most errors first, of equals by name."""
    words = sorted(tables.words.items(), key=lambda item: (-item[1].errors, item[0]))
    return {
        "words": [
            {
                "word": word,
                "right": counts.right,
                "substituted": counts.substituted,
                "deleted": counts.deleted,
                "inserted": counts.inserted,
                "falsely_recognised": counts.falsely_recognised,
                "errors": counts.errors,
                "in_reference": counts.in_reference,
                "in_hypothesis": counts.in_hypothesis,
            }
            for word, counts in words
        ],
        "pairs": [[reference, hypothesis, count] for (reference, hypothesis), count in order_counts(tables.pairs)],
        "insertions": [[word, count] for word, count in order_counts(tables.insertions)],
        "deletions": [[word, count] for word, count in order_counts(tables.deletions)],
    }


def _describe_utterance(utterance: Utterance, systems: int) -> dict[str, Any]:
    recognised: list[dict[str, Any] | None] = []
    for system, recognition in enumerate(utterance.recognitions):
        if recognition is None:
            recognised.append(None)
        else:
            alignment = [list(step) for step in utterance.steps(system)]
            about = {"hypothesis": recognition.hypothesis, "alignment": alignment}
            recognised.append(about | _describe_edits(recognition.edits))
    audio = utterance.audio
    return {
        "id": utterance.id,
        "set": utterance.set_name,
        "speaker": utterance.speaker,
        "seconds": utterance.seconds,
        "words": len(utterance.reference.split()),
        "reference": utterance.reference,
        "systems": recognised,
        "difference": compute_difference(utterance) if systems > 1 else None,
        "audio": None if audio is None else {"file": audio.file, "start": audio.start, "end": audio.end},
    }


def dump_json(content: Content) -> str:
    return json.dumps(to_json(content), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def dump_csv(content: Content) -> str:
    """A row an utterance: id, set, speaker, seconds, words, reference, and of each system hypothesis, alignment, edits
    and WER; with two systems or more, WER of the first less that of the second."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(list_columns([system.letter for system in content.systems]))
    for utterance in content.utterances:
        row: list[Any] = [utterance.id, utterance.set_name, utterance.speaker, _round(utterance.seconds)]
        row += [len(utterance.reference.split()), utterance.reference]
        for recognition in utterance.recognitions:
            if recognition is None:
                row += [""] * 6
            else:
                substitutions, deletions, insertions, _ = edits = recognition.edits
                row += [recognition.hypothesis, recognition.letters, substitutions, deletions, insertions]
                row.append(_round(compute_wer(edits)))
        if len(content.systems) > 1:
            row.append(_round(compute_difference(utterance)))
        writer.writerow(row)
    return stream.getvalue()


def list_columns(letters: Sequence[str]) -> list[str]:
    """The columns of the CSV, here and on the page."""
    columns = ["id", "set", "speaker", "seconds", "words", "reference"]
    for letter in letters:
        columns += [f"{name} {letter}" for name in ("hypothesis", "alignment", "S", "D", "I", "WER")]
    return [*columns, f"WER {letters[0]} - {letters[1]}"] if len(letters) > 1 else columns


def _round(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
