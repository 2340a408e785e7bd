"""Writing a corpus, whole or not at all, with a fingerprint that depends on the content alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from model.corpora.corpus import (
    CORPUS_FILE,
    Corpus,
    CorpusFile,
    SetInfo,
    SetKind,
    check_sets,
    manifest_path,
    read_corpus,
)
from model.corpora.normaliser import check_normaliser, normalise
from model.errors import UserError
from model.recipe.architecture import SAMPLE_RATE
from model.strict import read_yaml, to_yaml, validate, write_atomically


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
    """Write a corpus whole or not at all: it is built beside `folder` and moved there at the end.

    Texts are normalised here. A corpus of the same name is replaced; raises a UserError where `folder` holds anything
    else, or cannot be written.
    """
    check_normaliser(normaliser)
    check_replaceable(folder, name)
    folder = folder.resolve()  # a link to another disk stays a link
    draft = folder.parent / f".{folder.name}.{os.getpid()}"
    try:
        draft.mkdir(parents=True)
        _write_content(draft, name, normaliser, kinds, utterances, origin)
        _replace(folder, draft)
    except OSError as error:
        raise UserError(f"corpus {folder}: cannot be written ({error.strerror or error}); give another --out") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read_corpus(folder)


def check_replaceable(folder: Path, name: str) -> None:
    """Raise a UserError unless `folder` is missing, empty or a corpus called `name`."""
    if (folder / CORPUS_FILE).is_file():
        found = validate(CorpusFile, read_yaml(folder / CORPUS_FILE), str(folder / CORPUS_FILE)).name
        if found != name:
            raise UserError(f"corpus {folder}: holds corpus '{found}', not '{name}'; give another --out or remove it")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"corpus {folder}: exists and is no corpus; give a new or empty folder as --out")


def _write_content(
    draft: Path,
    name: str,
    normaliser: str,
    kinds: Mapping[str, SetKind],
    utterances: Iterable[Utterance],
    origin: str,
) -> None:
    cuts: dict[str, list[MonoCut]] = {set_name: [] for set_name in kinds}
    content_lines: dict[str, str] = {}  # what the fingerprint covers, by utterance
    for utterance in utterances:
        if utterance.id in content_lines:
            raise UserError(f"corpus {name}: utterance id '{utterance.id}' appears twice; ids must be unique")
        text = normalise(normaliser, utterance.text)
        pcm = _to_pcm(utterance.samples)
        cuts[utterance.set_name].append(_write_audio(draft, utterance, text, pcm))
        kind = kinds[utterance.set_name]
        content = [utterance.set_name, kind.role, kind.domain, utterance.id, text, len(pcm), _sha256(pcm.tobytes())]
        content_lines[utterance.id] = json.dumps(content, ensure_ascii=False)
    sets = {set_name: _set_info(kind, cuts[set_name]) for set_name, kind in kinds.items()}
    check_sets(sets, f"corpus {name}")
    for set_name in sets:
        CutSet.from_cuts(cuts[set_name]).to_file(manifest_path(draft, set_name))
    fingerprint = _sha256("\n".join([normaliser, *sorted(content_lines.values())]).encode())
    description = CorpusFile(name=name, normaliser=normaliser, origin=origin, sets=sets, fingerprint=fingerprint)
    write_atomically(draft / CORPUS_FILE, to_yaml(description))


def _set_info(kind: SetKind, cuts: list[MonoCut]) -> SetInfo:
    seconds = round(sum(cut.duration for cut in cuts), 3)
    return SetInfo(role=kind.role, domain=kind.domain, utterances=len(cuts), seconds=seconds)


def _write_audio(draft: Path, utterance: Utterance, text: str, pcm: np.ndarray) -> MonoCut:
    """Write an utterance's audio into the draft; its cut, whose path is relative to the corpus."""
    relative = Path("audio", utterance.set_name, f"{utterance.id}.flac")
    (draft / relative).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(draft / relative, pcm, SAMPLE_RATE, subtype="PCM_16")
    seconds = len(pcm) / SAMPLE_RATE
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource("file", [0], relative.as_posix())],
        sampling_rate=SAMPLE_RATE,
        num_samples=len(pcm),
        duration=seconds,
    )
    supervision = SupervisionSegment(
        id=utterance.id, recording_id=utterance.id, start=0.0, duration=seconds, text=text, speaker=utterance.speaker
    )
    return MonoCut(
        id=utterance.id, start=0.0, duration=seconds, channel=0, recording=recording, supervisions=[supervision]
    )


def _to_pcm(samples: np.ndarray) -> np.ndarray:
    """(T,) floats within [-1, 1] as 16-bit integers; 16-bit audio comes back unchanged."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2")


def _replace(folder: Path, draft: Path) -> None:
    """Move the draft to `folder`; the old corpus is removed only when the new one is there."""
    old = folder.parent / f"{draft.name}.old"
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
