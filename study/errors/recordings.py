"""Where the audio of utterances is, and how long they are, as the manifests of their corpus have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.corpora.corpus import Corpus, read_corpus
from model.corpora.manifest import UNKNOWN_SPEAKER, Entry
from model.errors import UserError
from model.recipe.architecture import SAMPLE_RATE
from study.errors.content import Utterance


def add_recordings(
    utterances: Sequence[Utterance], folder: Path | None, is_required: bool = False
) -> tuple[list[Utterance], list[str]]:
    """The utterances with seconds, audio and speaker of the corpus in this folder, and notes on what it lacks.

    A corpus that cannot be read is a note, or where it `is_required`, a UserError.
    """
    if folder is None:
        return list(utterances), ["The corpus is not known: without seconds and audio. Name it with --corpus FOLDER."]
    try:
        corpus = read_corpus(folder)
        entries = _read_entries(corpus, utterances)
    except UserError as error:
        if is_required:
            raise
        return list(utterances), [f"Without seconds and audio: {error}."]
    found = [_add(one, entries.get((one.set_name, one.id)) or entries.get(("", one.id))) for one in utterances]
    lacking = [one.id for one in found if one.seconds is None]
    if not lacking:
        return found, []
    return found, [
        f"{len(lacking)} of {len(found)} utterances are not in the corpus {corpus.folder}, such as {lacking[0]}: "
        "without seconds and audio."
    ]


def _read_entries(corpus: Corpus, utterances: Sequence[Utterance]) -> dict[tuple[str, str], Entry]:
    """The entries of the sets that the utterances are of; where a set is not the corpus's, of all, by id alone."""
    names = {one.set_name for one in utterances}
    wanted = {one.id for one in utterances}
    is_known = names <= corpus.sets.keys()
    entries: dict[tuple[str, str], Entry] = {}
    for name in sorted(names & corpus.sets.keys()) if is_known else corpus.sets:
        for entry in corpus.entries(name):
            if entry.id in wanted:
                entries[(name, entry.id)] = entry
                if not is_known:
                    entries.setdefault(("", entry.id), entry)
    return entries


def _add(utterance: Utterance, entry: Entry | None) -> Utterance:
    if entry is None:
        return utterance
    speaker = utterance.speaker or (entry.speaker if entry.speaker != UNKNOWN_SPEAKER else "")
    return replace(utterance, seconds=entry.samples / SAMPLE_RATE, audio=entry.audio, speaker=speaker)
