"""Features of a whole set, computed once and read by every trial through a memory map.

For every set and speed one file holds the frames of all utterances, (frames, 80) in float16, and an index beside it
the first frame and the number of frames of each utterance. Processes on one machine share the pages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet, MonoCut
from torch import Tensor

from model.corpora.corpus import Corpus
from model.data import frontend
from model.errors import UserError
from model.recipe.architecture import MEL_BINS
from model.strict import write_atomically

CACHE_VERSION = 1  # part of the path: raise it when the front end or the layout changes
FRAMES, INDEX = "frames.npy", "index.json"


@dataclass(frozen=True)
class FeatureStore:
    """The features of a set by utterance id; `index` has an utterance's first frame and number of frames."""

    set_name: str
    frames: np.ndarray
    index: dict[str, tuple[int, int]]

    def __getitem__(self, utterance: str) -> Tensor:
        """(T, 80) in float32."""
        first, count = self.index[utterance]
        return torch.from_numpy(self.frames[first : first + count].astype(np.float32))

    def frame_count(self, utterance: str) -> int:
        return self.index[utterance][1]


def load_cuts(corpus: Corpus, set_name: str, speed: float) -> CutSet:
    """The set's cuts, played `speed` times as fast; ids end in the speed where it is not 1."""
    cuts = corpus.cuts(set_name)
    return cuts if speed == 1.0 else cuts.perturb_speed(speed).to_eager()


def open_feature_store(corpus: Corpus, set_name: str, speed: float = 1.0) -> FeatureStore:
    """The cached features of a set, computed first where they are missing."""
    folder = _cache_folder(corpus) / f"{set_name}@{speed:g}"
    if not (folder / INDEX).is_file():
        _compute(load_cuts(corpus, set_name, speed), folder)
    index = {key: (first, count) for key, first, count in json.loads((folder / INDEX).read_text())}
    return FeatureStore(set_name, np.load(folder / FRAMES, mmap_mode="r"), index)


def _cache_folder(corpus: Corpus) -> Path:
    return corpus.folder / "cache" / f"log-mel-v{CACHE_VERSION}"


def _compute(cuts: Iterable[MonoCut], folder: Path) -> None:
    """Write the frames, then the index: where there is an index, the features are complete."""
    cuts = list(cuts)
    counts = [frontend.frame_count(cut.num_samples) for cut in cuts]
    starts = np.concatenate(([0], np.cumsum(counts))).tolist()
    draft = folder / f".{os.getpid()}.{FRAMES}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        frames = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float16, shape=(starts[-1], MEL_BINS))
    except OSError as error:
        raise UserError(
            f"{folder}: features cannot be kept there ({error.strerror}); make room, "
            "or copy the corpus to where you may write"
        ) from None

    def fill(cut: MonoCut, start: int, count: int) -> None:
        if count:
            samples = torch.from_numpy(cut.load_audio()[0])
            frames[start : start + count] = frontend.extract_features(samples)[:count].numpy()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, cuts, starts, counts))
    frames.flush()
    os.replace(draft, folder / FRAMES)
    index = [(cut.id, start, count) for cut, start, count in zip(cuts, starts, counts, strict=False)]
    write_atomically(folder / INDEX, json.dumps(index))
