"""Writing a corpus, whole or not at all, with a fingerprint that depends on the content alone."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from model.corpora.corpus import (
    CORPUS_FILE,
    Corpus,
    CorpusFile,
    References,
    SetInfo,
    SetKind,
    check_sets,
    manifest_path,
    read_corpus,
)
from model.corpora.manifest import UNKNOWN_SPEAKER, Entry, format_cut
from model.corpora.normaliser import check_normaliser, normalise, version_of
from model.corpora.parts import CheckedSegment, to_pcm
from model.corpora.source import AudioRef
from model.errors import UserError
from model.recipe.architecture import SAMPLE_RATE
from model.runtime.progress import note_progress
from model.strict import read_yaml, replace_file, sync_file, to_yaml, validate

COMPRESSION = 6  # of manifests: gzip's usual one


@dataclass(frozen=True)
class Utterance:
    """An utterance to write: `samples` is (T,) at 16 kHz, floats within [-1, 1]; `id` is unique in its corpus."""

    set_name: str
    id: str
    text: str
    speaker: str
    samples: np.ndarray


def write_corpus(
    folder: Path,
    name: str,
    normaliser: str,
    kinds: Mapping[str, SetKind],
    utterances: Iterable[Utterance],
    origin: str = "",
) -> Corpus:
    """Write utterances as a corpus, whole or not at all: it is built beside `folder` and moved there at the end.

    Texts are normalised here. A corpus of the same name is replaced; raises a UserError where `folder` holds anything
    else, or cannot be written.
    """
    check_normaliser(normaliser)
    check_replaceable(folder, name)
    with draft_of(folder) as draft:
        assemble(draft, name, normaliser, kinds, _write_audio(draft, normaliser, utterances), origin)
    return read_corpus(folder)


@contextlib.contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """A folder to build a corpus in, which takes the place of `folder` when the block ends, and is removed if it fails.

    Raises a UserError where something cannot be written.
    """
    draft = folder.resolve().parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir(parents=True)
        yield draft
        publish(folder, draft)
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_replaceable(folder: Path, name: str) -> None:
    """Raise a UserError unless `folder` is missing, empty or a corpus called `name`."""
    if (folder / CORPUS_FILE).is_file():
        found = validate(CorpusFile, read_yaml(folder / CORPUS_FILE), str(folder / CORPUS_FILE)).name
        if found != name:
            raise UserError(f"corpus {folder}: holds corpus '{found}', not '{name}'; give another --out or remove it")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"corpus {folder}: exists and is no corpus; give a new or empty folder as --out")


def unwritable(folder: Path, error: OSError) -> UserError:
    """The error of a corpus that cannot be written."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room, then start the same command again" if is_full else "give another --out"
    return UserError(f"corpus {folder}: cannot be written ({error.strerror or error}); {advice}")


def assemble(
    draft: Path,
    name: str,
    normaliser: str,
    kinds: Mapping[str, SetKind],
    utterances: Iterable[CheckedSegment],
    origin: str,
    references: References | None = None,
    normaliser_version: str | None = None,
) -> None:
    """Write the manifests and `corpus.yaml` of utterances whose audio is in its place.

    Their texts are normalised, by the rules of `normaliser_version`, or else by those that are installed.
    Raises a UserError where an id is there twice, or a set that is needed is missing or empty.
    """
    content_lines: dict[str, str] = {}  # what the fingerprint covers, by utterance
    counts, samples = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    with contextlib.ExitStack() as stack:
        streams = {set_name: stack.enter_context(_open_manifest(draft, set_name)) for set_name in kinds}
        for one in utterances:
            if one.id in content_lines:
                raise UserError(f"corpus {name}: utterance id '{one.id}' appears twice; ids must be unique")
            kind = kinds[one.set_name]
            content = [one.set_name, kind.role, kind.domain, one.id, one.text, one.samples, one.digest]
            content += [kind.weight] if kind.weight != 1.0 else []  # only then, since corpora are older than weights
            content_lines[one.id] = json.dumps(content, ensure_ascii=False)
            entry = Entry(
                id=one.id,
                text=one.text,
                speaker=one.speaker or UNKNOWN_SPEAKER,
                samples=one.samples,
                audio=one.audio,
                rate=one.rate,
                frames=one.frames,
                channels=one.channels,
            )
            streams[one.set_name].write(format_cut(entry) + "\n")
            counts[one.set_name] += 1
            samples[one.set_name] += one.samples
    sets = {
        set_name: SetInfo(
            role=kind.role,
            domain=kind.domain,
            weight=kind.weight,
            utterances=counts[set_name],
            seconds=round(samples[set_name] / SAMPLE_RATE, 3),
            manifest_bytes=manifest_path(draft, set_name).stat().st_size,
        )
        for set_name, kind in kinds.items()
    }
    check_sets(sets, f"corpus {name}")
    for set_name in sets:
        sync_file(manifest_path(draft, set_name))
    fingerprint = hashlib.sha256("\n".join([normaliser, *sorted(content_lines.values())]).encode()).hexdigest()
    description = CorpusFile(
        name=name,
        normaliser=normaliser,
        normaliser_version=normaliser_version or version_of(normaliser),
        origin=origin,
        sets=sets,
        references=references or {},
        fingerprint=fingerprint,
    )
    replace_file(draft / CORPUS_FILE, to_yaml(description))


def publish(folder: Path, draft: Path) -> None:
    """Move the draft to `folder`; the old corpus is removed only when the new one is there.

    A kill between the two renames leaves no `folder`, which `recover` puts back.
    """
    folder = folder.resolve()  # a link to another disk stays a link
    old = _old(draft)
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    _remove_corpus(old)


def recover(folder: Path, draft: Path) -> None:
    """Put back the corpus that a killed `publish` of this draft moved away, or remove the rest of one it replaced."""
    old = _old(draft)
    if (folder / CORPUS_FILE).is_file() or not (old / CORPUS_FILE).is_file():
        _remove_corpus(old)
    elif not folder.exists() or not any(folder.iterdir()):
        os.replace(old, folder)


def _old(draft: Path) -> Path:
    """Where the corpus is that the draft replaces, until it has."""
    return draft.with_name(f"{draft.name}.old")


def _remove_corpus(folder: Path) -> None:
    """Remove what is left of a corpus, if anything; what cannot be removed stays."""
    if folder.is_symlink():  # what it leads to is not this corpus
        return
    (folder / CORPUS_FILE).unlink(missing_ok=True)  # first: what is left by a kill is then no corpus
    # File after file, each a sign of progress: a slow server may take longer for all than the work may be silent.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(parent, name))
            note_progress()
    shutil.rmtree(folder, ignore_errors=True)


def _open_manifest(draft: Path, set_name: str) -> IO[str]:
    return gzip.open(manifest_path(draft, set_name), "wt", COMPRESSION, encoding="utf-8")


def _write_audio(draft: Path, normaliser: str, utterances: Iterable[Utterance]) -> Iterator[CheckedSegment]:
    """Write the utterances' audio into the draft."""
    for utterance in utterances:
        pcm = to_pcm(utterance.samples)
        relative = Path("audio", utterance.set_name, f"{utterance.id}.flac")
        (draft / relative).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(draft / relative, pcm, SAMPLE_RATE, subtype="PCM_16")
        yield CheckedSegment(
            place=utterance.id,
            id=utterance.id,
            set_name=utterance.set_name,
            text=normalise(normaliser, utterance.text),
            speaker=utterance.speaker,
            audio=AudioRef(relative.as_posix(), channel=0, end=len(pcm) / SAMPLE_RATE),
            findings=(),
            samples=len(pcm),
            digest=hashlib.sha256(pcm.tobytes()).hexdigest(),
            rate=SAMPLE_RATE,
            frames=len(pcm),
            channels=1,
        )
