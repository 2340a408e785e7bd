"""Counts over utterances: of each set, speaker and word, and which words are confused, inserted and deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from model.evaluation.error_rates import Edits
from study.errors.content import Content, Utterance, compute_wer, count_edits

ALL = "all"
T = TypeVar("T", str, tuple[str, str])


@dataclass(frozen=True)
class Figures:
    """What a system has over a group of utterances. `wrong` are its utterances with an error."""

    utterances: int
    wrong: int
    edits: Edits

    @property
    def wer(self) -> float | None:
        return compute_wer(self.edits)


@dataclass(frozen=True)
class Group:
    """A set or a speaker: the utterances that any system has, their seconds where all are known, figures by system."""

    name: str
    utterances: int
    seconds: float | None
    systems: tuple[Figures, ...]

    @property
    def difference(self) -> float | None:
        """WER of the first system less that of the second, in points."""
        rates = [figures.wer for figures in self.systems[:2]]
        return rates[0] - rates[1] if len(rates) == 2 and rates[0] is not None and rates[1] is not None else None


@dataclass
class WordCounts:
    """A word of references or hypotheses: how often it was right, replaced, deleted, inserted, or put for another."""

    right: int = 0
    substituted: int = 0
    deleted: int = 0
    inserted: int = 0
    falsely_recognised: int = 0

    @property
    def in_reference(self) -> int:
        return self.right + self.substituted + self.deleted

    @property
    def in_hypothesis(self) -> int:
        return self.right + self.inserted + self.falsely_recognised

    @property
    def errors(self) -> int:
        """As icefall counts them: of the word in the reference, and of the word in the hypothesis."""
        return self.substituted + self.deleted + self.inserted + self.falsely_recognised


@dataclass(frozen=True)
class WordTables:
    """A system's words, and its confusion pairs (reference, hypothesis), insertions and deletions with their counts."""

    words: dict[str, WordCounts] = field(default_factory=dict)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)
    deletions: Counter[str] = field(default_factory=Counter)


def summarise_sets(content: Content) -> list[Group]:
    """Each set, each file of several sets as a whole (`dev, all`), and where there are several files, everything."""
    groups: list[Group] = []
    parts = _divide(content.utterances, lambda one: one.part)
    for part, utterances in parts.items():
        sets = _divide(utterances, lambda one: one.set_name)
        groups += [_summarise(name, of_set, len(content.systems)) for name, of_set in sets.items()]
        if len(sets) > 1:
            name = f"{part}, {ALL}" if part else ALL
            groups.append(_summarise(name, utterances, len(content.systems)))
    return groups if len(parts) <= 1 else [*groups, _summarise(ALL, content.utterances, len(content.systems))]


def summarise_speakers(content: Content) -> list[Group]:
    """Each speaker, by name; utterances without one are together under an empty name."""
    speakers = _divide(content.utterances, lambda one: one.speaker)
    return [_summarise(name, utterances, len(content.systems)) for name, utterances in sorted(speakers.items())]


def count_words(utterances: Iterable[Utterance], system: int) -> WordTables:
    """The words of a system over the utterances that it has."""
    tables = WordTables()
    for utterance in utterances:
        for letter, reference, hypothesis in utterance.steps(system):
            if letter == "C":
                _word(tables, reference).right += 1
            elif letter == "S":
                _word(tables, reference).substituted += 1
                _word(tables, hypothesis).falsely_recognised += 1
                tables.pairs[reference, hypothesis] += 1
            elif letter == "D":
                _word(tables, reference).deleted += 1
                tables.deletions[reference] += 1
            else:
                _word(tables, hypothesis).inserted += 1
                tables.insertions[hypothesis] += 1
    return tables


def order_counts(counts: Counter[T]) -> list[tuple[T, int]]:
    """The most frequent first, of equals by their words."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _word(tables: WordTables, word: str) -> WordCounts:
    return tables.words.setdefault(word, WordCounts())


def _divide(utterances: Iterable[Utterance], key: Callable[[Utterance], str]) -> dict[str, list[Utterance]]:
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(key(utterance), []).append(utterance)
    return groups


def _summarise(name: str, utterances: Sequence[Utterance], systems: int) -> Group:
    seconds = [utterance.seconds for utterance in utterances]
    known = [value for value in seconds if value is not None]
    return Group(
        name,
        len(utterances),
        sum(known) if len(known) == len(seconds) else None,
        tuple(_figures(utterances, system) for system in range(systems)),
    )


def _figures(utterances: Sequence[Utterance], system: int) -> Figures:
    own = [one for one in (utterance.recognitions[system] for utterance in utterances) if one is not None]
    return Figures(len(own), sum(one.edits.errors > 0 for one in own), count_edits(utterances, system))
