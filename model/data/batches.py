"""Batches: the same global ones for every trial of a study; each rank loads its own share of every batch.

The batch of an optimiser step is planned first and then divided, so the number of workers changes neither the
content of a step nor the order of the steps.
Shapes: B utterances, T feature frames, U labels.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.data.augmentation import spec_augment
from model.data.corpus import Corpus
from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, load_utterances
from model.errors import UserError
from model.network.losses import IGNORED, Counts
from model.recipe.recipe import AugmentationConfig, DataConfig

TOO_LONG, TOO_SHORT = "longer than data.longest_seconds", "too short for their labels"


@dataclass(frozen=True)
class Batch:
    """features (B, T, 80), lengths (B,) in frames, labels (B, U) padded with -100, counts of the whole global batch."""

    ids: list[str]
    features: Tensor
    lengths: Tensor
    labels: Tensor
    counts: Counts

    def to(self, device: torch.device) -> Batch:
        """The batch with its features on `device`; lengths and labels stay on the host, where a loss reads them."""
        if device.type == "cpu":
            return self
        features, lengths, labels = (tensor.pin_memory() for tensor in (self.features, self.lengths, self.labels))
        return replace(self, features=features.to(device, non_blocking=True), lengths=lengths, labels=labels)


class TrainingSet:
    """The training utterances of a corpus at every speed. `skipped` counts those that cannot be trained on, by reason.

    Raises a UserError where no utterance is left.
    """

    def __init__(
        self, corpus: Corpus, data: DataConfig, augmentation: AugmentationConfig, tokenizer: Tokenizer
    ) -> None:
        self.data, self.augmentation = data, augmentation
        self.skipped = {TOO_LONG: 0, TOO_SHORT: 0}
        cuts, parts = [], []
        for set_name, speed in itertools.product(corpus.set_names("train"), data.speeds):
            cuts_of_set, utterances = load_utterances(corpus, set_name, speed, tokenizer)
            cuts += [cut for cut in cuts_of_set if self._is_usable(cut.id, cut.duration, utterances)]
            parts.append(utterances)
        if not cuts:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items() if count)
            raise UserError(
                f"corpus {corpus.folder}: no training utterance is left ({counts}); raise the limit or lengthen them"
            )
        self.cuts, self.utterances = CutSet.from_cuts(cuts), Utterances.merge(parts)

    def _is_usable(self, utterance: str, seconds: float, utterances: Utterances) -> bool:
        if seconds > self.data.longest_seconds:
            self.skipped[TOO_LONG] += 1
        elif not utterances.has_ctc_alignment(utterance):
            self.skipped[TOO_SHORT] += 1
        else:
            return True
        return False

    def plan_epoch(self, epoch: int) -> list[list[str]]:
        """The global batches of an epoch in their order, as utterance ids: equal on all ranks.

        Utterances of a bucket are of similar length; with one bucket, utterances of any length are batched together.
        """
        buckets = min(self.data.buckets, len(self.cuts))
        if buckets == 1:  # lhotse's sampler needs two
            durations = {cut.id: cut.duration for cut in self.cuts}
            order = random.Random(f"{self.data.seed} {epoch}").sample(sorted(durations), len(durations))
            return list(_cut_into_batches(order, durations, self.data.batch_seconds))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using DynamicBucketingSampler with an eagerly read CutSet")
            sampler = DynamicBucketingSampler(
                self.cuts,
                max_duration=self.data.batch_seconds,
                num_buckets=buckets,
                shuffle=True,
                seed=self.data.seed,
                rank=0,
                world_size=1,
            )
        sampler.set_epoch(epoch)
        return [[cut.id for cut in batch] for batch in sampler]

    def longest_batch(self) -> list[str]:
        """The longest utterances, as many as a batch may hold: a global batch that any epoch may have."""
        ordered = sorted(((cut.duration, cut.id) for cut in self.cuts), reverse=True)
        return [utterance for _, utterance in ordered[: max(1, int(self.data.batch_seconds / ordered[0][0]))]]

    def load_share(self, batch: list[str], rank: int, world_size: int, parts: int, seed: int) -> list[Batch]:
        """A rank's share of a global batch, in at most `parts` parts for gradient accumulation.

        A rank that is left without an utterance gets a part with nothing to score, since all ranks take every step.
        """
        labels = self.utterances.labels
        counts = Counts(len(batch), sum(len(labels[utterance]) for utterance in batch))
        share = batch[rank::world_size]
        groups = [group for group in (share[part::parts] for part in range(parts)) if group]
        return [self._load(group, counts, seed) for group in groups] or [self._load_unscored(batch[0], counts)]

    def _load(self, ids: list[str], counts: Counts, seed: int) -> Batch:
        features = [spec_augment(self.utterances.features(key), self.augmentation, f"{seed}/{key}") for key in ids]
        return collate(ids, features, [self.utterances.labels[key] for key in ids], counts)

    def _load_unscored(self, utterance: str, counts: Counts) -> Batch:
        return collate([utterance], [self.utterances.features(utterance)], [[IGNORED]], counts)


def collate(ids: list[str], features: list[Tensor], labels: list[list[int]], counts: Counts) -> Batch:
    """Pad utterances into a batch."""
    return Batch(
        ids,
        pad_sequence(features, batch_first=True),
        torch.tensor([frames.shape[0] for frames in features]),
        pad_sequence([torch.tensor(tokens) for tokens in labels], batch_first=True, padding_value=IGNORED),
        counts,
    )


def _cut_into_batches(order: Iterable[str], lengths: Mapping[str, float], limit: float) -> Iterator[list[str]]:
    """Ids in their order, in batches whose padded length is at most `limit`, or of one id that is longer."""
    batch: list[str] = []
    longest = 0.0
    for key in order:
        longest = max(longest, lengths[key])
        if batch and longest * (len(batch) + 1) > limit:
            yield batch
            batch, longest = [], lengths[key]
        batch.append(key)
    if batch:
        yield batch


def group_by_length(lengths: Mapping[str, int], seconds: float) -> Iterator[list[str]]:
    """Ids by ascending `lengths` in frames, in groups of at most `seconds` of padded audio each."""
    order = sorted(lengths, key=lambda key: (lengths[key], key))
    return _cut_into_batches(order, lengths, seconds * FRAMES_PER_SECOND)


def make_scoring_batches(utterances: Utterances, seconds: float, rank: int, world_size: int) -> Iterator[Batch]:
    """A rank's share of a set, utterances of similar length together, at most `seconds` of padded audio in a batch."""
    lengths = {key: utterances.frame_count(key) for key in utterances.texts}
    share = sorted(lengths, key=lambda key: (lengths[key], key))[rank::world_size]
    for ids in group_by_length({key: lengths[key] for key in share}, seconds):
        labels = [utterances.labels[key] for key in ids]
        counts = Counts(len(ids), sum(map(len, labels)))
        yield collate(ids, [utterances.features(key) for key in ids], labels, counts)
