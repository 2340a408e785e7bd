"""Batches: the same global ones for every trial of a study; each rank loads its own share of every batch.

The batch of an optimiser step is planned first and then divided, so the number of workers changes neither the
content of a step nor the order of the steps.
Shapes: B utterances, T feature frames, U labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.corpora.corpus import Corpus
from model.data.augmentation import spec_augment
from model.data.epoch_plan import DataPosition, EpochPlanner, PlannedBatch, Rows, choose_share, cut_into_batches
from model.data.frontend import FRAMES_PER_SECOND, extract_features
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, learn_tokens_per_second, load_utterances, speed_ending
from model.data.waveforms import augment_waveform
from model.errors import UserError
from model.network.losses import IGNORED, Counts
from model.recipe.recipe import AugmentationConfig, DataConfig
from model.recipe.training import TrainingConfig

TOO_LONG, TOO_SHORT = "longer than data.longest_seconds", "too short for their labels"


@dataclass(frozen=True)
class Batch:
    """features (B, T, 80), lengths (B,) in frames, labels (B, U) padded with -100, counts of the whole global batch.

    `rows` (B,) are the utterances' places in their `Utterances`, none where they are in no such.
    """

    ids: list[str]
    features: Tensor
    lengths: Tensor
    labels: Tensor
    counts: Counts
    rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def to(self, device: torch.device) -> Batch:
        """The batch with its features on `device`; lengths and labels stay on the host, where a loss reads them."""
        if device.type == "cpu":
            return self
        pinned = self.pin_memory()
        return replace(pinned, features=pinned.features.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in memory from which a GPU copies while the host goes on; torch's DataLoader calls it, too."""
        features, lengths, labels = (tensor.pin_memory() for tensor in (self.features, self.lengths, self.labels))
        return replace(self, features=features, lengths=lengths, labels=labels)

    def split(self) -> tuple[Batch, Batch]:
        """Its first and its second half, each without padding that only the other one needs."""
        middle = len(self.ids) // 2
        return self._part(slice(None, middle)), self._part(slice(middle, None))

    def split_alternately(self) -> tuple[Batch, Batch]:
        """Its utterances in even and in odd places, without padding that only the others need."""
        return self._part(slice(None, None, 2)), self._part(slice(1, None, 2))

    def _part(self, rows: slice) -> Batch:
        lengths, labels = self.lengths[rows], self.labels[rows]
        longest = int((labels != IGNORED).sum(dim=1).max())
        features = self.features[rows, : int(lengths.max())]
        return replace(
            self,
            rows=self.rows[rows],
            ids=self.ids[rows],
            features=features,
            lengths=lengths,
            labels=labels[:, :longest],
        )


class TrainingSet:
    """The training utterances of a corpus at every speed. `rows` (N,) are those of `utterances` that are trained on.

    `skipped` counts those that cannot be trained on, by reason. Raises a UserError where none is left.
    """

    def __init__(
        self,
        corpus: Corpus,
        data: DataConfig,
        augmentation: AugmentationConfig,
        tokenizer: Tokenizer,
        share: float = 1.0,
    ) -> None:
        """`share` is the part of each set's utterances that is used: a larger share holds all of a smaller one."""
        self.data, self.augmentation = data, augmentation
        sets = list(itertools.product(corpus.set_names("train"), data.speeds))
        self.utterances = utterances = load_utterances(corpus, sets, tokenizer, not augmentation.changes_waveforms)
        is_used = _choose_share(corpus, utterances, data, share)
        is_too_long = is_used & (utterances.seconds > data.longest_seconds)
        is_too_short = is_used & ~is_too_long & ~utterances.find_ctc_alignable()
        self.skipped = {TOO_LONG: int(is_too_long.sum()), TOO_SHORT: int(is_too_short.sum())}
        self.rows = np.flatnonzero(is_used & ~is_too_long & ~is_too_short)
        if not len(self.rows):
            counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items() if count)
            raise UserError(
                f"corpus {corpus.folder}: no training utterance is left ({counts}); raise the limit or lengthen them"
            )
        self._planner = EpochPlanner(
            utterances.seconds[self.rows],
            utterances.label_counts[self.rows],
            data.batch_seconds,
            data.buckets,
            data.label_buckets,
            data.seed,
            _choose_rates(corpus, utterances, self.rows, data),
        )

    @property
    def tokens_per_second(self) -> float:
        """The bound on hypotheses that the training text gives."""
        return learn_tokens_per_second(self.utterances.label_counts[self.rows], self.utterances.frames[self.rows])

    @property
    def buckets(self) -> int:
        """How many there are: K."""
        return self.data.buckets * self.data.label_buckets

    def find_bucket(self, batch: Rows) -> int:
        """The bucket of a global batch, or that of its first utterance where it was not planned."""
        return self._planner.find_bucket(np.searchsorted(self.rows, batch[:1]))

    def plan_epoch(self, start: DataPosition, steps: int | None) -> tuple[list[PlannedBatch], DataPosition]:
        """The global batches of the epoch that starts at `start`, and where it ends: equal on all ranks.

        With `steps` None the epoch is what is left of the pass over the data.
        """
        planned, end = self._planner.plan_epoch(start, steps)
        return [PlannedBatch(batch.data_pass, self.rows[batch.rows]) for batch in planned], end

    def plan_pass(self, data_pass: int) -> list[Rows]:
        """The global batches of a whole pass over the data."""
        return [self.rows[batch] for batch in self._planner.plan_pass(data_pass)]

    def count_steps(self, data_pass: int) -> int:
        """The batches of a pass over the data."""
        return len(self._planner.plan_pass(data_pass))

    def epoch_steps(self, training: TrainingConfig) -> int | None:
        """Optimiser steps in an epoch, or None where an epoch is a pass over the data."""
        if training.epoch_share is None:
            return training.epoch_steps
        return max(1, round(training.epoch_share * self.count_steps(0)))  # of one pass: epochs of equal length

    def longest_batch(self) -> Rows:
        """The longest utterances, as many as a batch may hold: a global batch that any epoch may have."""
        seconds = self.utterances.seconds[self.rows]
        order = np.argsort(-seconds, kind="stable")
        return self.rows[order[: max(1, int(self.data.batch_seconds / seconds[order[0]]))]]

    def load_share(self, batch: Rows, rank: int, world_size: int, parts: int, draw: str) -> list[Batch]:
        """A rank's share of a global batch, in at most `parts` parts for gradient accumulation.

        `draw` identifies the random draws, with each utterance's id: the same draw has the same masks.
        A rank that is left without an utterance gets a part with nothing to score, since all ranks take every step.
        """
        counts = Counts(len(batch), int(self.utterances.label_counts[batch].sum()))
        share = batch[rank::world_size]
        groups = [group for group in (share[part::parts] for part in range(parts)) if len(group)]
        return [self._load(group, counts, draw) for group in groups] or [self._load_unscored(batch[0], counts)]

    def _load(self, rows: Rows, counts: Counts, draw: str) -> Batch:
        utterances = self.utterances
        ids = [utterances.id(row) for row in rows]
        features = [
            spec_augment(self._features(row, f"{draw}/{key}"), self.augmentation, f"{draw}/{key}")
            for row, key in zip(rows, ids, strict=True)
        ]
        return collate(rows, ids, features, [utterances.labels(row) for row in rows], counts)

    def _features(self, row: int, draw: str) -> Tensor:
        """(T, 80), cached, or of the waveform as the draw changes it."""
        if not self.augmentation.changes_waveforms:
            return self.utterances.features(row)
        return extract_features(augment_waveform(self.utterances.waveform(row), self.augmentation, draw))

    def _load_unscored(self, row: int, counts: Counts) -> Batch:
        utterances = self.utterances
        ids, features = [utterances.id(row)], [self._features(row, "")]
        return collate(np.array([row]), ids, features, [np.array([IGNORED])], counts)


def _choose_share(corpus: Corpus, utterances: Utterances, data: DataConfig, share: float) -> np.ndarray:
    """(N,) which utterances are used: of each set the same ones at all speeds."""
    used = []
    start = 0
    for name in corpus.set_names("train"):
        count = corpus.sets[name].utterances
        if share < 1.0:
            ids = [utterances.id(row).removesuffix(speed_ending(data.speeds[0])) for row in range(start, start + count)]
            used += [choose_share(ids, share, data.seed)] * len(data.speeds)
        else:
            used += [np.ones(count * len(data.speeds), dtype=bool)]
        start += count * len(data.speeds)
    return np.concatenate(used)


def _choose_rates(corpus: Corpus, utterances: Utterances, rows: Rows, data: DataConfig) -> np.ndarray | None:
    """(N,) how often each of the rows is seen in a pass, or None where each is, once.

    Of the seconds of a pass a set has a share in proportion to its weight and to its own seconds to the power of one
    over the temperature.
    """
    names = corpus.set_names("train")
    weights = np.array([corpus.sets[name].weight for name in names])
    if data.temperature == 1.0 and (weights == weights[0]).all():
        return None
    bounds = np.cumsum([0, *(corpus.sets[name].utterances * len(data.speeds) for name in names)])
    places = np.searchsorted(bounds, rows, side="right") - 1
    seconds = np.bincount(places, weights=utterances.seconds[rows], minlength=len(names))
    shares = weights * seconds ** (1.0 / data.temperature)
    wanted = seconds.sum() * shares / shares.sum()
    rates: np.ndarray = np.round(wanted / np.maximum(seconds, 1e-9), 6)[places]
    return rates


def collate(rows: Rows, ids: list[str], features: list[Tensor], labels: list[np.ndarray], counts: Counts) -> Batch:
    """Pad utterances into a batch."""
    return Batch(
        ids,
        pad_sequence(features, batch_first=True),
        torch.tensor([frames.shape[0] for frames in features]),
        pad_sequence(
            [torch.from_numpy(tokens.astype(np.int64)) for tokens in labels], batch_first=True, padding_value=IGNORED
        ),
        counts,
        rows,
    )


def group_by_length(lengths: np.ndarray, seconds: float) -> Iterator[Rows]:
    """Rows by ascending `lengths` (N,) in frames, in groups of at most `seconds` of padded audio each."""
    order = np.argsort(lengths, kind="stable")
    return cut_into_batches(order, lengths, seconds * FRAMES_PER_SECOND)


def make_scoring_batches(utterances: Utterances, seconds: float, rank: int, world_size: int) -> Iterator[Batch]:
    """A rank's share of a set, utterances of similar length together, at most `seconds` of padded audio in a batch."""
    share = np.argsort(utterances.frames, kind="stable")[rank::world_size]
    for group in group_by_length(utterances.frames[share], seconds):
        rows = share[group]
        labels = [utterances.labels(row) for row in rows]
        counts = Counts(len(rows), sum(map(len, labels)))
        ids, features = [utterances.id(row) for row in rows], [utterances.features(row) for row in rows]
        yield collate(rows, ids, features, labels, counts)
