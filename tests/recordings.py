"""Recordings for tests of corpora: tones, noise, files, segments and lhotse's cuts of them; and what a corpus holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment

from model.corpora.corpus import Corpus
from model.corpora.findings import Findings
from model.corpora.source import AudioRef, Segment


def tone(seconds: float = 0.5, rate: int = 8000, hertz: float = 440.0) -> np.ndarray:
    """(T,) of half of full scale."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def noise(seed: int, seconds: float = 0.5, rate: int = 16_000) -> np.ndarray:
    """(T,) that no other seed gives."""
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate))


def write_segments(folder: Path, sets: dict[str, int], seconds: float = 1.0, speakers: int = 1) -> list[Segment]:
    """So many segments of each set, each a file of its own; a set's speakers take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    segments = []
    for set_name, count in sets.items():
        for number in range(count):
            name = f"{set_name}-{number}"
            path = folder / f"{name}.wav"
            soundfile.write(path, noise(len(segments), seconds), 16_000)
            text = f"{set_name} sentence {number}"
            speaker = f"{set_name}-{'ann' if speakers == 1 else number % speakers}"
            segments.append(Segment(f"row {name}", name, text, AudioRef(str(path)), speaker, set_name))
    return segments


def write_noise(path: Path, seed: int, seconds: float = 0.5, rate: int = 16_000) -> np.ndarray:
    """A recording in the format of the path's suffix, in a folder that is made; its samples, (T,), as they are read."""
    return write_audio(path, noise(seed, seconds, rate), rate)


def write_audio(path: Path, samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples in the format of the path's suffix, in a folder that is made; as they are read, (T,)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, format="NIST" if path.suffix == ".sph" else None)
    return soundfile.read(path)[0]


def describe(corpus: Corpus) -> dict[str, list[tuple[str, str, str]]]:
    """The id, text and speaker of each utterance, by set."""
    return {name: [(one.id, one.text, one.speaker) for one in corpus.entries(name)] for name in corpus.sets}


def read_samples(corpus: Corpus) -> dict[str, np.ndarray]:
    """The samples of each utterance, (T,), by its id."""
    return {one.id: corpus.read_samples(one) for name in corpus.sets for one in corpus.entries(name)}


def list_found(findings: Findings) -> dict[str, list[str]]:
    """The places and details of what was found, by check."""
    return {check: [str(finding) for finding in found] for check, found in findings.by_check.items()}


def record(path: Path, seed: int, seconds: float = 2.0) -> Recording:
    """Lhotse's recording of a file that is written."""
    write_noise(path, seed, seconds)
    return Recording.from_file(path)


def supervise(recording: Recording, start: float = 0.0, end: float | None = None, **fields: Any) -> SupervisionSegment:
    """A supervision of a stretch of a recording, named and worded after it."""
    fields = {"id": f"{recording.id}-s", "text": f"Text of {recording.id}", "speaker": f"{recording.id}-ann", **fields}
    duration = (end or recording.duration) - start
    return SupervisionSegment(recording_id=recording.id, start=start, duration=duration, **fields)


def cut_of(recording: Recording, *supervisions: SupervisionSegment, start: float = 0.0, **fields: Any) -> MonoCut:
    """A cut of a recording from `start` to its end, or of the `duration` among the fields."""
    duration = fields.pop("duration", recording.duration - start)
    fields = {"id": f"{recording.id}-cut", "channel": 0, **fields}
    return MonoCut(start=start, duration=duration, recording=recording, supervisions=list(supervisions), **fields)
