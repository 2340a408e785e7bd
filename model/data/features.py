"""Features of a whole set, computed once and read by every trial through memory maps.

For every set and speed a folder holds the frames of all utterances in parts, each a file of (frames, 80) in float16.
Processes on one machine share the pages. A part is there whole or not at all: it is written under a name of its own and
then renamed, by whichever process computes it first, so that preparations may be killed, or run side by side.

float16 keeps log-mel values, which are standardised, to three digits, and any stretch of a file can be read as it is.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.corpora.audio import resample, resampled_length
from model.corpora.corpus import Corpus
from model.corpora.manifest import Entry
from model.data import frontend
from model.errors import UserError
from model.recipe.architecture import MEL_BINS, SAMPLE_RATE
from model.runtime.processes import run_in_processes
from model.runtime.progress import note_progress
from model.strict import make_folders, sync_folder

CACHE_VERSION = 2  # part of the path: raise it when the front end or the layout changes
PART_UTTERANCES = 1000
DEAD_AFTER_SECONDS = 3600.0  # without a change to a draft
OPEN_PARTS = 4096  # mapped by a process at the same time; Linux allows 65,530 maps


RunParts = Callable[[Callable[["FeaturePart"], int], Sequence["FeaturePart"]], Iterable[int]]


@dataclass(frozen=True)
class FeaturePart:
    """Consecutive utterances of a set whose features are in one file."""

    corpus: Corpus
    entries: tuple[Entry, ...]
    speed: float
    path: Path
    threads: int = 1


def feature_folder(corpus: Corpus, set_name: str, speed: float) -> Path:
    """Where the features of a set at a speed are."""
    return corpus.folder / "cache" / f"log-mel-v{CACHE_VERSION}" / f"{set_name}@{speed:g}"


def part_path(folder: Path, part: int) -> Path:
    """The file of a part, counted from 0."""
    return folder / f"part-{part:05d}.npy"


def samples_at(speed: float, samples: int) -> int:
    """How many samples at 16 kHz an utterance of `samples` has when it is played `speed` times as fast."""
    return resampled_length(samples, _rate(speed))


def compute_features(corpus: Corpus, set_name: str, speed: float, run: RunParts | None = None) -> None:
    """Compute the features of a set at a speed where they are missing, by default in a process for each core."""
    folder = feature_folder(corpus, set_name, speed)
    missing = missing_parts(folder, corpus.sets[set_name].utterances)
    if not missing:
        return
    _remove_drafts(folder)
    entries, cores = list(corpus.entries(set_name)), os.cpu_count() or 1
    parts = [
        FeaturePart(corpus, tuple(entries[number * PART_UTTERANCES : (number + 1) * PART_UTTERANCES]), speed, path)
        for number, path in missing.items()
    ]
    if len(parts) == 1:
        write_part(replace(parts[0], threads=cores))
        return
    for _ in run(write_part, parts) if run else run_in_processes(write_part, parts, cores):
        note_progress()


def _remove_drafts(folder: Path) -> None:
    """Remove what killed processes have left: a draft that lives is written to every few seconds."""
    for draft in folder.glob(".part-*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > DEAD_AFTER_SECONDS:
                draft.unlink()


def missing_parts(folder: Path, utterances: int) -> dict[int, Path]:
    """The parts that features of so many utterances lack, and the files that they will be in."""
    paths = {part: part_path(folder, part) for part in range(-(-utterances // PART_UTTERANCES))}
    return {part: path for part, path in paths.items() if not path.is_file()}


def write_part(part: FeaturePart) -> int:
    """Compute and write a part; the number of its utterances."""
    counts = [frontend.frame_count(samples_at(part.speed, entry.samples)) for entry in part.entries]
    draft = part.path.with_name(f".{part.path.name}.{uuid.uuid4().hex[:8]}")
    try:
        make_folders(part.path.parent)
        with draft.open("wb") as stream:
            header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), MEL_BINS)}
            np.lib.format.write_array_header_2_0(stream, header)
            for count, features in zip(counts, _extract_all(part), strict=True):
                stream.write(features[:count].astype("<f2").tobytes())
                note_progress()
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, part.path)
        sync_folder(part.path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(
            f"{part.path.parent}: features cannot be kept there ({error.strerror}); make room, "
            "or copy the corpus to where you may write"
        ) from None
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return len(counts)


def _extract_all(part: FeaturePart) -> Iterator[np.ndarray]:
    """Features (T, 80) of each utterance of a part, in their order."""

    def extract(entry: Entry) -> np.ndarray:
        samples = change_speed(part.corpus.read_samples(entry), part.speed)
        if frontend.frame_count(len(samples)) == 0:
            return np.empty((0, MEL_BINS), dtype=np.float32)
        return frontend.extract_features(torch.from_numpy(samples).float()).numpy()

    if part.threads == 1:
        yield from map(extract, part.entries)
        return
    with ThreadPoolExecutor(part.threads) as pool:
        yield from pool.map(extract, part.entries)


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """(T,) at 16 kHz, played `speed` times as fast, and so much higher."""
    return resample(samples, _rate(speed))


def _rate(speed: float) -> int:
    """The rate at which samples of 16 kHz are played: what then has 16 kHz again is that much faster, and higher."""
    return round(SAMPLE_RATE * speed)


class FeatureStore:
    """The features of a set at a speed by position in the set; `samples` (N,) are the utterances' lengths."""

    def __init__(self, folder: Path, samples: np.ndarray) -> None:
        self._folder = folder
        self.frames = np.maximum(0, 1 + (samples - frontend.WINDOW_SAMPLES) // frontend.HOP_SAMPLES).astype(np.int32)
        ends = np.cumsum(self.frames, dtype=np.int64)
        self._first = ends - self.frames
        self._base = self._first[::PART_UTTERANCES]  # the first frame of each part

    def __getitem__(self, position: int) -> Tensor:
        """(T, 80) in float32."""
        part = position // PART_UTTERANCES
        start = int(self._first[position] - self._base[part])
        frames = _open_part(part_path(self._folder, part))[start : start + int(self.frames[position])]
        return torch.from_numpy(frames.astype(np.float32))


@lru_cache(OPEN_PARTS)
def _open_part(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")
