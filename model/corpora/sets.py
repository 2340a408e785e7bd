"""Which set an utterance is in, and what a set is for: as the source says, as the user says, or divided here."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from model.corpora.corpus import SetKind
from model.corpora.normaliser import normalise
from model.corpora.source import Segment
from model.errors import UserError

DEV_SHARE = TEST_SHARE = 0.1
FEWEST_SPEAKERS = 10  # with fewer, sets are divided by sentence: a speaker may be most of the corpus

LONGEST_NAME = 100  # of a set, after which files are named
KINDS = "train, dev, test, dev:out, test:out or none"
_KIND = re.compile(r"(none)|(train|dev|test)(?::(in|(?<!train:)out))?")
_ROLES = {"train": "train", "dev": "dev", "valid": "dev", "test": "test", "eval": "test"}


def parse_kinds(given: Iterable[str]) -> dict[str, SetKind | None]:
    """`NAME=ROLE`, `NAME=ROLE:out` or `NAME=none` as the kind of each set, None for a set that is left out."""
    kinds: dict[str, SetKind | None] = {}
    for option in given:
        name, _, kind = option.partition("=")
        if not name or not _KIND.fullmatch(kind):
            raise UserError(f"--set {option}: must be NAME={KINDS}")
        kinds[name] = parse_kind(kind)
    return kinds


def parse_kind(text: str) -> SetKind | None:
    """`ROLE`, `ROLE:out` or `none`. Raises a ValueError where it is none of these."""
    match = _KIND.fullmatch(text)
    if not match:
        raise ValueError(f"'{text}' is no kind of set; give {KINDS}")
    none, role, domain = match.groups()
    return None if none else SetKind(role=role, domain=domain or "in")


def kind_of(name: str) -> SetKind | None:
    """What a set is for by its name, or None where that does not say.

    The first word that is a role counts: train-clean-100, dev, validation, test-other, eval2000. The words `ood` and
    `out` make a dev or test set out of domain.
    """
    words = re.split(r"[^a-z]+", name.lower())
    roles = [role for word in words for start, role in _ROLES.items() if word.startswith(start)]
    if not roles:
        return None
    is_out = roles[0] != "train" and any(word in ("ood", "out") for word in words)
    return SetKind.model_validate({"role": roles[0], "domain": "out" if is_out else "in"})


def choose_kinds(names: Iterable[str], given: Mapping[str, SetKind | None], source: str) -> dict[str, SetKind]:
    """The kind of each set that is kept, train and dev first. Raises a UserError where a name says nothing."""
    names = list(dict.fromkeys(names))
    for name in given:
        if name not in names:
            raise UserError(f"{source}: has no set '{name}'; its sets are {', '.join(names)}")
    kinds: dict[str, SetKind] = {}
    for name in names:
        kind = given[name] if name in given else kind_of(name)
        if kind is not None and len(name) > LONGEST_NAME:
            raise UserError(
                f"{source}: the name of set '{name[:40]}...' has {len(name)} characters, but must have at most "
                f"{LONGEST_NAME}; give it a shorter one"
            )
        if kind is not None:
            kinds[name] = kind
        elif name not in given:
            raise UserError(
                f"{source}: the name of set '{name}' does not say what it is for; give --set {name}=train, dev, test, "
                "test:out or none"
            )
    order = ("train", "dev", "test")
    return dict(sorted(kinds.items(), key=lambda item: order.index(item[1].role)))


def divide_into_sets(segments: Sequence[Segment], seed: int) -> list[Segment]:
    """The segments, each in a set: those that have none yet are divided 80 / 10 / 10 into train, dev and test.

    Whole speakers are divided where all are known and there are enough, otherwise sentences.
    """
    divided = [segment for segment in segments if segment.set_name is None]
    speakers = Counter(segment.speaker for segment in divided)
    if None in speakers or len(speakers) < FEWEST_SPEAKERS:
        return [_in_set(segment, choose_set(segment.text, seed)) for segment in segments]
    sets = divide_speakers({speaker: count for speaker, count in speakers.items() if speaker is not None}, seed)
    return [_in_set(segment, sets.get(segment.speaker or "", "train")) for segment in segments]


def _in_set(segment: Segment, set_name: str) -> Segment:
    return segment if segment.set_name is not None else dataclasses.replace(segment, set_name=set_name)


def choose_set(text: str, seed: int) -> str:
    """The set of a sentence, by its hash: spelling variants stay together, and more rows move no sentence."""
    place = _place(normalise("basic", text), seed)
    if place < DEV_SHARE:
        return "dev"
    return "test" if place < DEV_SHARE + TEST_SHARE else "train"


def divide_speakers(utterances: Mapping[str, int], seed: int) -> dict[str, str]:
    """The set of each speaker, of whom so many `utterances` are known.

    In the order of their hashes they go to dev until it has its share of all utterances, then to test, then to train.
    Who has more than that share alone is trained on.
    """
    total = sum(utterances.values())
    missing = {"dev": DEV_SHARE * total, "test": TEST_SHARE * total}
    sets: dict[str, str] = {}
    for speaker in sorted(utterances, key=lambda speaker: (_place(speaker, seed), speaker)):
        fits = utterances[speaker] <= DEV_SHARE * total
        name = next((name for name, count in missing.items() if fits and count > 0), "train")
        sets[speaker] = name
        if name in missing:
            missing[name] -= utterances[speaker]
    return sets


def _place(text: str, seed: int) -> float:
    """Where a text falls in [0, 1), by its hash."""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
