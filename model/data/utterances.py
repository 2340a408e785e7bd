"""The utterances of sets of a corpus as arrays, with their features, their labels and their text.

What all trials of a study read is written once for a set, a speed and a tokenizer: an Arrow file with a column each for
ids, texts, speakers, lengths and labels, which every process maps into its memory. Utterances are rows, from 0.
Shapes: N utterances, T feature frames, U labels.
"""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from model.corpora.corpus import Corpus
from model.corpora.source import AudioRef
from model.data.features import FeatureStore, change_speed, compute_features, feature_folder, samples_at
from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import Tokenizer
from model.errors import UserError
from model.network.subsampling import subsampled_length
from model.recipe.architecture import SAMPLE_RATE
from model.strict import make_folders, sync_file

FILE_VERSION = 2  # part of the path
ENCODED_TOGETHER = 10_000  # texts
SCHEMA = pa.schema(
    {
        "id": pa.large_string(),
        "text": pa.large_string(),
        "speaker": pa.large_string(),
        "samples": pa.int64(),  # at 16 kHz and this speed
        "labels": pa.large_list(pa.int32()),  # pieces of the text, then eos
        "file": pa.large_string(),  # relative where it is a copy
        "channel": pa.int32(),  # null: the mean of all
        "start": pa.float64(),
        "end": pa.float64(),
    }
)


@dataclass(frozen=True)
class UtteranceSet:
    """The utterances of one set at one speed. `labels` holds all of them, those of row n from `starts[n]` on."""

    corpus: Corpus
    name: str
    speed: float
    table: pa.Table
    samples: np.ndarray  # (N,)
    labels: np.ndarray
    starts: np.ndarray  # (N + 1,)
    features: FeatureStore


class Utterances:
    """Utterances of several sets, one after the other.

    `seconds` (N,), `frames` (N,) and `label_counts` (N,) are their lengths.
    """

    def __init__(self, sets: Sequence[UtteranceSet]) -> None:
        self._sets = sets
        self._starts = np.cumsum([0, *(len(one.samples) for one in sets)])
        self._selected: np.ndarray | None = None  # (N,) rows among those of all sets; None where it is all of them
        self.seconds = np.concatenate([one.samples for one in sets]) / SAMPLE_RATE
        self.frames = np.concatenate([one.features.frames for one in sets])
        self.label_counts = np.concatenate([np.diff(one.starts) for one in sets]).astype(np.int32)

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, rows: np.ndarray) -> Utterances:
        """Those of the rows (M,) alone, which become rows 0 to M - 1."""
        part = copy.copy(self)
        part._selected = rows if self._selected is None else self._selected[rows]
        part.seconds, part.frames = self.seconds[rows], self.frames[rows]
        part.label_counts = self.label_counts[rows]
        return part

    @property
    def set_names(self) -> list[str]:
        return list(dict.fromkeys(one.name for one in self._sets))

    def id(self, row: int) -> str:
        """Unique in a corpus; ends in the speed where it is not 1."""
        return self._value("id", row)

    def text(self, row: int) -> str:
        """The reference, normalised."""
        return self._value("text", row)

    def speaker(self, row: int) -> str:
        return self._value("speaker", row)

    def set_name(self, row: int) -> str:
        return self._find(row)[0].name

    def labels(self, row: int) -> np.ndarray:
        """(U,) token ids that end in eos."""
        one, place = self._find(row)
        return one.labels[one.starts[place] : one.starts[place + 1]]

    def features(self, row: int) -> Tensor:
        """(T, 80) in float32."""
        one, place = self._find(row)
        return one.features[place]

    def waveform(self, row: int) -> Tensor:
        """(T,) in float32, within [-1, 1], at 16 kHz and the speed of its set: read from its recording."""
        one, place = self._find(row)
        file, channel, start, end = (one.table[column][place].as_py() for column in ("file", "channel", "start", "end"))
        samples = one.corpus.read_audio(AudioRef(file, channel=channel, start=start, end=end))
        return torch.from_numpy(change_speed(samples, one.speed)).float()

    def find_ctc_alignable(self) -> np.ndarray:
        """(N,) whether CTC can align the labels: an encoder frame for each, and a blank between equal neighbours."""
        needed = np.concatenate([_count_ctc_frames(one) for one in self._sets])
        needed = needed if self._selected is None else needed[self._selected]
        is_alignable: np.ndarray = subsampled_length(self.frames) >= needed
        return is_alignable

    def _value(self, column: str, row: int) -> str:
        one, place = self._find(row)
        value: str = one.table[column][place].as_py()
        return value

    def _find(self, row: int) -> tuple[UtteranceSet, int]:
        """The set of a row, and the row in it."""
        if self._selected is not None:
            row = int(self._selected[row])
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._sets[index], int(row - self._starts[index])


def _count_ctc_frames(one: UtteranceSet) -> np.ndarray:
    """(N,) the fewest encoder frames that have a CTC path: the labels, and the pairs of equal neighbours in each."""
    pairs = np.concatenate(([0], np.cumsum(one.labels[1:] == one.labels[:-1])))  # among the labels up to each
    ends = one.starts[1:]
    return np.diff(one.starts) + pairs[ends - 1] - pairs[one.starts[:-1]]


DENSITY_MARGIN = 1.25  # other speech may be denser than the densest of the training set


def learn_tokens_per_second(tokens: np.ndarray, frames: np.ndarray) -> float:
    """A bound on tokens a second, from the tokens (N,) and feature frames (N,) of the training utterances."""
    return DENSITY_MARGIN * float((tokens * FRAMES_PER_SECOND / frames).max())


def load_utterances(
    corpus: Corpus, sets: Iterable[tuple[str, float]], tokenizer: Tokenizer, has_features: bool = True
) -> Utterances:
    """The utterances of sets, each at a speed; what is missing of them on disk is made first.

    Without features they have only their lengths and waveforms.
    """
    return Utterances([_load_set(corpus, name, speed, tokenizer, has_features) for name, speed in sets])


def _load_set(corpus: Corpus, set_name: str, speed: float, tokenizer: Tokenizer, has_features: bool) -> UtteranceSet:
    path = utterance_file(corpus, set_name, speed, tokenizer)
    if not path.is_file():
        _write_file(path, corpus, set_name, speed, tokenizer)
    folder = feature_folder(corpus, set_name, speed)
    if has_features:
        compute_features(corpus, set_name, speed)
    table = _read_file(path)
    samples = table["samples"].chunk(0).to_numpy()
    labels = table["labels"].chunk(0)
    return UtteranceSet(
        corpus=corpus,
        name=set_name,
        speed=speed,
        table=table,
        samples=samples,
        labels=labels.values.to_numpy(),
        starts=labels.offsets.to_numpy(),
        features=FeatureStore(folder, samples),
    )


def utterance_file(corpus: Corpus, set_name: str, speed: float, tokenizer: Tokenizer) -> Path:
    """Where the arrays of a set are."""
    digest = hashlib.sha256(tokenizer.content).hexdigest()[:12]
    return corpus.folder / "cache" / f"utterances-v{FILE_VERSION}" / f"{set_name}@{speed:g}-{digest}.arrow"


def speed_ending(speed: float) -> str:
    """What ids of utterances at a speed end in."""
    return "" if speed == 1.0 else f"_sp{speed}"


def _read_file(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({reason}); remove it, and it is made again") from None


def _write_file(path: Path, corpus: Corpus, set_name: str, speed: float, tokenizer: Tokenizer) -> None:
    """Write the arrays of a set, whole or not at all. They are one record batch, so that columns are arrays."""
    ending = speed_ending(speed)
    entries = list(corpus.entries(set_name))
    expected = corpus.sets[set_name].utterances
    if len(entries) != expected:
        raise UserError(
            f"corpus {corpus.folder}, set {set_name}: its manifest holds {len(entries)} utterances, but should hold "
            f"{expected}; make the corpus again with `decred-study prepare`"
        )
    columns = [
        pa.array([entry.id + ending for entry in entries], pa.large_string()),
        pa.array([entry.text for entry in entries], pa.large_string()),
        pa.array([entry.speaker for entry in entries], pa.large_string()),
        pa.array([samples_at(speed, entry.samples) for entry in entries], pa.int64()),
        _encode_all([entry.text for entry in entries], tokenizer),
        pa.array([corpus.shorten(entry.audio.file) for entry in entries], pa.large_string()),
        pa.array([entry.audio.channel for entry in entries], pa.int32()),
        pa.array([entry.audio.start for entry in entries], pa.float64()),
        pa.array([entry.audio.end for entry in entries], pa.float64()),
    ]
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        make_folders(path.parent)
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        sync_file(draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(
            f"{path.parent}: labels cannot be kept there ({reason}); make room, or copy the corpus to where you "
            "may write"
        ) from None


def _encode_all(texts: Sequence[str], tokenizer: Tokenizer) -> pa.Array:
    """The labels of all texts in one list array, some thousand texts at a time: lists of Python numbers are large."""
    lengths: list[int] = [0]
    pieces: list[np.ndarray] = []
    for encoded in _encode_in_turn(texts, tokenizer):
        lengths += [len(labels) for labels in encoded]
        pieces += [np.array([label for labels in encoded for label in labels], dtype=np.int32)]
    offsets = pa.array(np.cumsum(lengths), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate(pieces), pa.int32()))


def _encode_in_turn(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[list[list[int]]]:
    for start in range(0, len(texts), ENCODED_TOGETHER):
        yield tokenizer.encode_all(texts[start : start + ENCODED_TOGETHER])
