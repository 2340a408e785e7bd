"""Several corpora as one: which sets of each, for what, how much of their training speech, and how often it is seen.

    name: mix
    parts:
      - corpus: librispeech              # relative to this file
        sets: {train-other-500: none}    # others have the kinds that they have there
        cap_hours: 100                   # of its training speech
      - corpus: calls
        weight: 2                        # twice as often as its hours would have it
        dev_hours: 1                     # of its training speech, kept apart to compare trials by
      - corpus: fleurs
        sets: {test: "test:out"}

A mix holds no audio: its manifests name that of its corpora, which have to stay where they are. A set is called after
its corpus and itself, `librispeech-test-clean`, and ids and speakers likewise.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from model.corpora.corpus import Corpus, References, SetKind, SetName, read_corpus
from model.corpora.corpus_writer import assemble, check_replaceable, draft_of
from model.corpora.manifest import UNKNOWN_SPEAKER, Entry
from model.corpora.parts import CheckedSegment
from model.corpora.sets import parse_kind
from model.errors import UserError
from model.recipe.architecture import SAMPLE_RATE
from model.strict import Strict, read_yaml, unknown_name, validate

DEV_SLICE = "dev-slice"
Hours = Annotated[float, Field(gt=0.0)]


class MixPart(Strict):
    """One of the corpora, and what is taken of it."""

    corpus: str
    name: SetName | None = Field(None, description="what its sets are called after; by default the corpus' own name")
    sets: dict[str, str] = Field({}, description="kinds that sets have here: train, dev, test, dev:out, test:out, none")
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    cap_hours: Hours | None = Field(None, description="of training speech; which utterances, their hashes say")
    dev_hours: Hours | None = Field(None, description="of training speech that becomes a dev set, whole speakers of it")

    @field_validator("sets")
    @classmethod
    def _are_kinds(cls, sets: dict[str, str]) -> dict[str, str]:
        for kind in sets.values():
            parse_kind(kind)
        return sets


class MixFile(Strict):
    """The content of a mix file."""

    name: SetName
    seed: int = 0
    parts: Annotated[list[MixPart], Field(min_length=1)]
    references: References = Field({}, description="published figures of its sets: set -> system -> metric -> value")


@dataclass(frozen=True)
class _Part:
    """A part with its corpus."""

    settings: MixPart
    corpus: Corpus
    seed: int

    @property
    def name(self) -> str:
        return self.settings.name or self.corpus.name

    def kinds(self) -> dict[str, SetKind]:
        """The kind of each set that is taken, by its name in the corpus."""
        for name in self.settings.sets:
            if name not in self.corpus.sets:
                raise UserError(
                    f"corpus {self.corpus.folder}: has no set '{name}'; {unknown_name(name, self.corpus.sets)}"
                )
        chosen = {
            name: parse_kind(self.settings.sets[name])
            if name in self.settings.sets
            else SetKind(role=info.role, domain=info.domain)
            for name, info in self.corpus.sets.items()
        }
        weight = self.settings.weight
        return {
            name: kind.model_copy(update={"weight": weight}) if kind.role == "train" else kind
            for name, kind in chosen.items()
            if kind is not None
        }


def mix_corpora(file: Path, out: Path) -> Corpus:
    """The mix that a file describes as a corpus in `out`.

    Raises a UserError where a corpus or set is missing, or texts were normalised in different ways.
    """
    mix = validate(MixFile, read_yaml(file), str(file))
    parts = [_Part(part, read_corpus(file.parent / part.corpus), mix.seed) for part in mix.parts]
    _check_parts(file, parts, out)
    check_replaceable(out, mix.name)
    kinds = {f"{part.name}-{name}": kind for part in parts for name, kind in part.kinds().items()}
    kinds |= {f"{part.name}-{DEV_SLICE}": SetKind(role="dev") for part in parts if part.settings.dev_hours}
    references = {name: figures for name, figures in mix.references.items() if name in kinds}
    utterances = (one for part in parts for one in _read_part(part))
    first = parts[0].corpus
    with draft_of(out) as draft:
        origin = f"mix {file.name}"
        assemble(draft, mix.name, first.normaliser, kinds, utterances, origin, references, first.normaliser_version)
    return read_corpus(out)


def _check_parts(file: Path, parts: Iterable[_Part], out: Path) -> None:
    normalisers = {part.corpus.normaliser_version: part.name for part in parts}
    if len(normalisers) > 1:
        listed = ", ".join(f"{name} has {normaliser}" for normaliser, name in normalisers.items())
        raise UserError(f"{file}: its corpora are normalised in different ways ({listed}); prepare them alike")
    repeated = [name for name, count in Counter(part.name for part in parts).items() if count > 1]
    if repeated:
        raise UserError(f"{file}: two of its parts are called '{repeated[0]}'; give one of them another name")
    for part in parts:
        if out.resolve() in (part.corpus.folder, *part.corpus.folder.parents):
            raise UserError(f"corpus {part.corpus.folder} lies inside the corpus folder {out}; give another --out")


def _read_part(part: _Part) -> Iterator[CheckedSegment]:
    kinds = part.kinds()
    hours = sum(part.corpus.sets[name].seconds for name, kind in kinds.items() if kind.role == "train") / 3600
    for name, kind in kinds.items():
        entries = list(part.corpus.entries(name))
        if kind.role == "train":
            share = part.corpus.sets[name].seconds / 3600 / hours
            yield from _divide_training(part, name, entries, share)
        else:
            yield from (_place(part, entry, name) for entry in entries)


def _divide_training(part: _Part, name: str, entries: list[Entry], share: float) -> Iterator[CheckedSegment]:
    """The utterances of a training set that are kept, to train on or as dev; it is a `share` of all training speech."""
    settings = part.settings
    dev = set(_take_speakers(entries, (settings.dev_hours or 0.0) * share, part.seed))
    rest = [entry for entry in entries if entry not in dev]
    if not rest:
        raise UserError(
            f"corpus {part.corpus.folder}: with dev_hours {settings.dev_hours:g} all of set '{name}' would be dev, "
            f"{part.corpus.sets[name].seconds / 3600:.3g} hours of whole speakers; give fewer"
        )
    if settings.cap_hours is not None:
        order = sorted(rest, key=lambda entry: _hash(part.seed, entry.id))
        kept = set(_take(order, settings.cap_hours * share))
        rest = [entry for entry in rest if entry in kept]
    yield from (_place(part, entry, name) for entry in rest)
    yield from (_place(part, entry, DEV_SLICE) for entry in entries if entry in dev)


def _take_speakers(entries: list[Entry], hours: float, seed: int) -> Iterator[Entry]:
    """All utterances of as many speakers as have so many hours together; an unknown speaker has one utterance."""
    by_speaker: dict[str, list[Entry]] = {}
    for entry in entries:
        by_speaker.setdefault(_speaker_or_id(entry), []).append(entry)
    left = round(hours * 3600 * SAMPLE_RATE)
    for speaker in sorted(by_speaker, key=lambda speaker: _hash(seed, speaker)):
        if left <= 0:
            return
        yield from by_speaker[speaker]
        left -= sum(entry.samples for entry in by_speaker[speaker])


def _take(order: list[Entry], hours: float) -> Iterator[Entry]:
    """The first utterances that have so many hours together."""
    left = round(hours * 3600 * SAMPLE_RATE)
    for entry in order:
        if left <= 0:
            return
        yield entry
        left -= entry.samples


def _speaker_or_id(entry: Entry) -> str:
    return entry.id if entry.speaker == UNKNOWN_SPEAKER else entry.speaker


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=8).digest()


def _place(part: _Part, entry: Entry, set_name: str) -> CheckedSegment:
    """The entry as an utterance of the mix. What identifies its audio is its corpus' content, and its id there."""
    speaker = None if entry.speaker == UNKNOWN_SPEAKER else f"{part.name}-{entry.speaker}"
    return CheckedSegment(
        place=entry.id,
        id=f"{part.name}-{entry.id}",
        set_name=f"{part.name}-{set_name}",
        text=entry.text,
        speaker=speaker,
        audio=entry.audio,
        findings=(),
        samples=entry.samples,
        digest=f"{part.corpus.fingerprint}/{entry.id}",
        rate=entry.rate,
        frames=entry.frames,
        channels=entry.channels,
    )
