"""A corpus on disk: `corpus.yaml`, one lhotse cuts manifest a set (`<set>.cuts.jsonl.gz`) and `audio/`.

`audio/` holds copies, 16 kHz mono FLAC of 16 bit; their paths in the manifests are relative to the folder, so that a
corpus can be moved and mounted anywhere. Audio that was left where it is has absolute paths, and any rate and number of
channels. Each cut has one supervision with normalised text and a speaker.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from model.corpora.audio import AudioError, read_stretch, to_mono_16khz
from model.corpora.manifest import Entry, read_entry
from model.corpora.normaliser import version_of
from model.corpora.source import AudioRef
from model.errors import UserError
from model.strict import Strict, read_yaml, validate

if TYPE_CHECKING:
    from lhotse import CutSet

CORPUS_FILE = "corpus.yaml"

Role = Literal["train", "dev", "test"]
Domain = Literal["in", "out"]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

References = dict[SetName, dict[str, dict[str, float]]]

_DAMAGE = (OSError, EOFError, zlib.error, ValueError)  # what half a gzip file of JSON lines raises
_MAKE_AGAIN = "make the corpus again with `decred-study prepare`"
_PURPOSE = {"train": "train on", "dev": "compare trials by"}


class SetKind(Strict):
    """What a set is for; `domain` separates dev and test sets that are like the training sets from others."""

    role: Role
    domain: Domain = "in"
    weight: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="how often a training set is seen in a pass over the data, beside others of its length"
    )

    @model_validator(mode="after")
    def _consistent(self) -> SetKind:
        if self.domain == "out" and self.role == "train":
            raise ValueError("role is train and domain is out, but what a model is trained on is its domain")
        return self


class SetInfo(SetKind):
    """One set of a corpus, as `corpus.yaml` has it."""

    utterances: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0.0)]
    manifest_bytes: int | None = Field(None, description="size of the set's manifest; corpora of version 0.2 lack it")


class CorpusFile(Strict):
    """The content of `corpus.yaml`."""

    name: str
    normaliser: str
    normaliser_version: str | None = Field(None, description="of the rules that its texts went through, with the name")
    origin: str = Field("", description="how the corpus was made; what has the same origin is not made twice")
    sets: dict[SetName, SetInfo]
    references: References = Field({}, description="published figures of sets: set -> system -> metric -> value")
    fingerprint: str


@dataclass(frozen=True)
class Corpus:
    """Named sets of utterances, each with a role. `fingerprint` is a hash of the content, not of the folder.

    `normaliser_version` has the name, and the versions that the texts were made with when the corpus was prepared.
    """

    folder: Path
    name: str
    normaliser: str
    origin: str
    sets: Mapping[str, SetInfo]
    fingerprint: str
    normaliser_version: str
    references: References = field(default_factory=dict)

    def cuts(self, set_name: str) -> CutSet:
        """All cuts of a set, in memory, with absolute audio paths."""
        from lhotse import CutSet  # it imports torch, which takes longer than all else that reading a corpus needs

        path = manifest_path(self.folder, set_name)
        try:
            cuts = CutSet.from_file(path).with_recording_path_prefix(self.folder).to_eager()
        except Exception as error:  # lhotse passes on what its parsers raise
            raise _unreadable(path, error) from None
        first = Path(cuts[0].recording.sources[0].source)
        if not first.is_file():
            raise UserError(f"corpus {self.folder}: audio file {first} is missing; {_MAKE_AGAIN}")
        return cuts

    def set_names(self, role: Role, domain: Domain | None = None) -> list[str]:
        """The sets with this role, in the order of `corpus.yaml`; `domain` selects those of that domain."""
        return [name for name, info in self.sets.items() if info.role == role and domain in (None, info.domain)]

    def entries(self, set_name: str) -> Iterator[Entry]:
        """The utterances of a set, in the order of `cuts`, with absolute audio paths."""
        path = manifest_path(self.folder, set_name)
        try:
            for line in _lines(path):
                yield read_entry(line, self.folder)
        except (*_DAMAGE, LookupError, TypeError) as error:
            raise _unreadable(path, error) from None

    def texts(self, set_name: str) -> list[str]:
        """The normalised text of each utterance, in the order of `cuts`."""
        return [entry.text for entry in self.entries(set_name)]

    def read_samples(self, entry: Entry) -> np.ndarray:
        """(T,) float64 at 16 kHz. Raises a UserError where the recording cannot be read as it was prepared."""
        return self.read_audio(entry.audio)

    def read_audio(self, audio: AudioRef) -> np.ndarray:
        """The same of where its audio is; a relative path is relative to the corpus."""
        try:
            stretch = read_stretch(replace(audio, file=str(self.folder / audio.file)))
            return to_mono_16khz(stretch.samples, stretch.rate)
        except AudioError as error:
            raise UserError(f"corpus {self.folder}: {audio.file}: {error}; {_MAKE_AGAIN}") from None

    def shorten(self, file: str) -> str:
        """The path of an audio file, relative to the corpus where it lies inside, so that it may be moved."""
        return os.path.relpath(file, self.folder) if self.folder in Path(file).parents else file


def read_corpus(folder: Path) -> Corpus:
    """The corpus in `folder`. Raises a UserError if it is missing or incomplete: a set, a manifest or part of one."""
    if not folder.is_dir():
        raise UserError(
            f"corpus {folder}: no such folder; make one with `decred-study prepare demo --out {folder}` or "
            f"`decred-study prepare table FILE.tsv --out {folder}`"
        )
    path = folder / CORPUS_FILE
    if not path.is_file():
        raise UserError(f"corpus {folder}: holds no {CORPUS_FILE}, so it is no corpus; give the folder that has one")
    content = validate(CorpusFile, read_yaml(path), str(path))
    check_sets(content.sets, f"corpus {folder}")
    for name, info in content.sets.items():
        _check_complete(folder, name, info)
    return Corpus(
        folder=folder.resolve(),
        name=content.name,
        normaliser=content.normaliser,
        origin=content.origin,
        sets=content.sets,
        fingerprint=content.fingerprint,
        normaliser_version=content.normaliser_version or version_of(content.normaliser),
        references=content.references,
    )


def check_trainable(corpus: Corpus) -> None:
    """Raise a UserError unless there is a train set and a dev set. Others are for mixes, and to evaluate on."""
    for role in ("train", "dev"):
        if not any(info.role == role for info in corpus.sets.values()):
            raise UserError(
                f"corpus {corpus.folder}: has no {role} set; a study needs one to {_PURPOSE[role]}, so add one, or mix "
                "it with a corpus that has one (`decred-study prepare mix`)"
            )


def check_sets(sets: Mapping[str, SetInfo], source: str) -> None:
    """Raise a UserError where there is no set, or a set is empty."""
    if not sets:
        raise UserError(f"{source}: has no set; give it one")
    for name, info in sets.items():
        if not info.utterances:
            raise UserError(f"{source}: set '{name}' is empty; give it utterances or leave it out")


def manifest_path(folder: Path, set_name: str) -> Path:
    """The file with the cuts of a set."""
    return folder / f"{set_name}.cuts.jsonl.gz"


def _check_complete(folder: Path, name: str, info: SetInfo) -> None:
    """Raise a UserError where the manifest is not as it was written; its lines are read where it has no stated size."""
    path = manifest_path(folder, name)
    try:
        size = path.stat().st_size
        count = info.utterances if info.manifest_bytes is not None else sum(1 for _ in _lines(path))
    except _DAMAGE as error:
        raise _unreadable(path, error) from None
    if info.manifest_bytes not in (None, size):
        raise UserError(f"{path}: has {size} bytes, but {CORPUS_FILE} says {info.manifest_bytes}; {_MAKE_AGAIN}")
    if count != info.utterances:
        raise UserError(f"{path}: holds {count} utterances, but {CORPUS_FILE} says {info.utterances}; {_MAKE_AGAIN}")


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        yield from stream


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return UserError(f"{path}: cannot be read ({' '.join(str(reason).split())}); {_MAKE_AGAIN}")
