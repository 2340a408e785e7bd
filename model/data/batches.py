"""Batches: the same global ones for every trial of a study, each worker its own share of every one.

The batch of an optimiser step is made first, then shared out, so the number of workers changes neither what is in
a step nor the order of steps.
Shapes: B utterances, T feature frames, U labels.
"""

from __future__ import annotations

import itertools
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
from model.data.features import FeatureStore, cuts_at_speed, feature_store
from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import Tokenizer
from model.errors import UserError
from model.network.losses import IGNORED, Counts
from model.network.subsampling import subsampled_length
from model.recipe.recipe import AugmentationConfig, DataConfig


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
        features, lengths, labels = (one.pin_memory() for one in (self.features, self.lengths, self.labels))
        return replace(self, features=features.to(device, non_blocking=True), lengths=lengths, labels=labels)


@dataclass(frozen=True)
class Utterances:
    """All utterances of some sets: where their features are, their labels with eos, their text."""

    stores: Mapping[str, FeatureStore]
    labels: Mapping[str, list[int]]
    texts: Mapping[str, str]

    @classmethod
    def together(cls, parts: Iterable[Utterances]) -> Utterances:
        """The utterances of all parts; ids are unique in a corpus."""
        stores: dict[str, FeatureStore] = {}
        labels: dict[str, list[int]] = {}
        texts: dict[str, str] = {}
        for part in parts:
            stores |= part.stores
            labels |= part.labels
            texts |= part.texts
        return cls(stores, labels, texts)

    def features(self, utterance: str) -> Tensor:
        return self.stores[utterance][utterance]

    def length(self, utterance: str) -> int:
        return self.stores[utterance].length(utterance)


def utterances_of(corpus: Corpus, set_name: str, speed: float, tokenizer: Tokenizer) -> tuple[CutSet, Utterances]:
    """The cuts of one set at one speed, and their utterances."""
    cuts, store = cuts_at_speed(corpus, set_name, speed), feature_store(corpus, set_name, speed)
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    labels = {key: tokenizer.labels(text) for key, text in texts.items()}
    return cuts, Utterances(dict.fromkeys(texts, store), labels, texts)


def fits(utterances: Utterances, utterance: str) -> bool:
    """Whether CTC can align the labels: a frame for each, and one for a blank between equal neighbours."""
    labels = utterances.labels[utterance]
    repeats = sum(a == b for a, b in itertools.pairwise(labels))
    return int(subsampled_length(utterances.length(utterance))) >= len(labels) + repeats


class TrainingSet:
    """The training utterances of a corpus at every speed; those left out are counted in `left_out`."""

    def __init__(
        self, corpus: Corpus, data: DataConfig, augmentation: AugmentationConfig, tokenizer: Tokenizer
    ) -> None:
        self.data, self.augmentation = data, augmentation
        self.left_out = {"longer than data.longest_seconds": 0, "too short for their labels": 0}
        cuts, parts = [], []
        for set_name, speed in itertools.product(corpus.names("train"), data.speeds):
            some, utterances = utterances_of(corpus, set_name, speed, tokenizer)
            cuts += [cut for cut in some if self._keep(cut.id, cut.duration, utterances)]
            parts.append(utterances)
        if not cuts:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
            raise UserError(
                f"corpus {corpus.folder}: no training utterance is left ({counts}); raise the limit or lengthen them"
            )
        self.cuts, self.utterances = CutSet.from_cuts(cuts), Utterances.together(parts)

    def _keep(self, utterance: str, seconds: float, utterances: Utterances) -> bool:
        if seconds > self.data.longest_seconds:
            self.left_out["longer than data.longest_seconds"] += 1
        elif not fits(utterances, utterance):
            self.left_out["too short for their labels"] += 1
        else:
            return True
        return False

    def plan(self, epoch: int) -> list[list[str]]:
        """The global batches of an epoch in their order, as utterance ids: equal on all workers."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using DynamicBucketingSampler with an eagerly read CutSet")
            sampler = DynamicBucketingSampler(
                self.cuts,
                max_duration=self.data.batch_seconds,
                num_buckets=min(self.data.buckets, len(self.cuts)),
                shuffle=True,
                seed=self.data.seed,
                rank=0,
                world_size=1,
            )
        sampler.set_epoch(epoch)
        return [[cut.id for cut in batch] for batch in sampler]

    def longest(self) -> list[str]:
        """The longest utterances, as many as a batch may hold: a global batch that any epoch may have."""
        ordered = sorted(((cut.duration, cut.id) for cut in self.cuts), reverse=True)
        return [one for _, one in ordered[: max(1, int(self.data.batch_seconds / ordered[0][0]))]]

    def share(self, batch: list[str], rank: int, world: int, parts: int, seed: int) -> list[Batch]:
        """One worker's share of a global batch, in `parts` for gradient accumulation.

        A worker left without an utterance gets one with nothing to score, since all workers must take the step.
        """
        utterances = self.utterances
        counts = Counts(len(batch), sum(len(utterances.labels[one]) for one in batch))
        mine = batch[rank::world]
        groups = [mine[part::parts] for part in range(parts)] if mine else [[]]
        return [self._batch(group, counts, seed) for group in groups if group] or [self._empty(batch[0], counts)]

    def _batch(self, ids: list[str], counts: Counts, seed: int) -> Batch:
        augmented = [spec_augment(self.utterances.features(one), self.augmentation, f"{seed}/{one}") for one in ids]
        return collate(ids, augmented, [self.utterances.labels[one] for one in ids], counts)

    def _empty(self, utterance: str, counts: Counts) -> Batch:
        return collate([utterance], [self.utterances.features(utterance)], [[IGNORED]], counts)


def collate(ids: list[str], features: list[Tensor], labels: list[list[int]], counts: Counts) -> Batch:
    """Pad utterances into one batch."""
    return Batch(
        ids,
        pad_sequence(features, batch_first=True),
        torch.tensor([one.shape[0] for one in features]),
        pad_sequence([torch.tensor(one) for one in labels], batch_first=True, padding_value=IGNORED),
        counts,
    )


def scoring_batches(utterances: Utterances, seconds: float, rank: int, world: int) -> Iterator[Batch]:
    """This worker's share of a set, utterances of similar length together, at most `seconds` of padded audio each."""
    mine = sorted(utterances.texts, key=lambda one: (utterances.length(one), one))[rank::world]
    group: list[str] = []
    for utterance in mine:
        if group and utterances.length(utterance) * (len(group) + 1) > seconds * FRAMES_PER_SECOND:
            yield _scoring_batch(group, utterances)
            group = []
        group.append(utterance)
    if group:
        yield _scoring_batch(group, utterances)


def _scoring_batch(ids: list[str], utterances: Utterances) -> Batch:
    labels = [utterances.labels[one] for one in ids]
    counts = Counts(len(ids), sum(map(len, labels)))
    return collate(ids, [utterances.features(one) for one in ids], labels, counts)
