"""Batches: the same global ones for every trial of a study; each rank loads its own share of every batch.

The batch of an optimiser step is planned first and then divided, so the number of workers changes neither the
content of a step nor the order of the steps.
Shapes: B utterances, T feature frames, U labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from lhotse import CutSet
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.corpora.corpus import Corpus
from model.data.augmentation import spec_augment
from model.data.epoch_plan import DataPosition, EpochPlanner, PlannedBatch, choose_share, cut_into_batches
from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, learn_tokens_per_second, load_utterances
from model.errors import UserError
from model.network.losses import IGNORED, Counts
from model.recipe.recipe import AugmentationConfig, DataConfig, TrainingConfig

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

    def split(self) -> tuple[Batch, Batch]:
        """Its first and its second half, each without padding that only the other one needs."""
        middle = len(self.ids) // 2
        return self._part(slice(None, middle)), self._part(slice(middle, None))

    def _part(self, rows: slice) -> Batch:
        lengths, labels = self.lengths[rows], self.labels[rows]
        longest = int((labels != IGNORED).sum(dim=1).max())
        features = self.features[rows, : int(lengths.max())]
        return replace(self, ids=self.ids[rows], features=features, lengths=lengths, labels=labels[:, :longest])


class TrainingSet:
    """The training utterances of a corpus at every speed. `skipped` counts those that cannot be trained on, by reason.

    Raises a UserError where no utterance is left.
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
        self.skipped = {TOO_LONG: 0, TOO_SHORT: 0}
        cuts, parts = [], []
        for set_name, speed in itertools.product(corpus.set_names("train"), data.speeds):
            cuts_of_set, utterances = load_utterances(corpus, set_name, speed, tokenizer)
            # Without the ending that lhotse gives the copies at other speeds: all speeds share the same utterances.
            ids = {cut.id: cut.id.removesuffix(f"_sp{speed}") for cut in cuts_of_set}
            used = choose_share(ids.values(), share, data.seed)
            cuts += [
                cut for cut in cuts_of_set if ids[cut.id] in used and self._is_usable(cut.id, cut.duration, utterances)
            ]
            parts.append(utterances)
        if not cuts:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items() if count)
            raise UserError(
                f"corpus {corpus.folder}: no training utterance is left ({counts}); raise the limit or lengthen them"
            )
        self.cuts, self.utterances = CutSet.from_cuts(cuts), Utterances.merge(parts)
        seconds = {cut.id: cut.duration for cut in cuts}
        self._planner = EpochPlanner(seconds, data.batch_seconds, data.buckets, data.seed)

    @property
    def tokens_per_second(self) -> float:
        """The bound on hypotheses that the training text gives."""
        utterances = self.utterances
        return learn_tokens_per_second(
            (len(utterances.labels[cut.id]), utterances.frame_count(cut.id)) for cut in self.cuts
        )

    def _is_usable(self, utterance: str, seconds: float, utterances: Utterances) -> bool:
        if seconds > self.data.longest_seconds:
            self.skipped[TOO_LONG] += 1
        elif not utterances.has_ctc_alignment(utterance):
            self.skipped[TOO_SHORT] += 1
        else:
            return True
        return False

    def plan_epoch(self, start: DataPosition, steps: int | None) -> tuple[list[PlannedBatch], DataPosition]:
        """The global batches of the epoch that starts at `start`, and where it ends: equal on all ranks.

        With `steps` None the epoch is what is left of the pass over the data.
        """
        return self._planner.plan_epoch(start, steps)

    def plan_pass(self, data_pass: int) -> list[list[str]]:
        """The global batches of a whole pass over the data, as utterance ids."""
        return self._planner.plan_pass(data_pass)

    def epoch_steps(self, training: TrainingConfig) -> int | None:
        """Optimiser steps in an epoch, or None where an epoch is a pass over the data."""
        if training.epoch_share is None:
            return training.epoch_steps
        return max(1, round(training.epoch_share * len(self.plan_pass(0))))  # of one pass: epochs of equal length

    def longest_batch(self) -> list[str]:
        """The longest utterances, as many as a batch may hold: a global batch that any epoch may have."""
        ordered = sorted(((cut.duration, cut.id) for cut in self.cuts), reverse=True)
        return [utterance for _, utterance in ordered[: max(1, int(self.data.batch_seconds / ordered[0][0]))]]

    def load_share(self, batch: list[str], rank: int, world_size: int, parts: int, draw: str) -> list[Batch]:
        """A rank's share of a global batch, in at most `parts` parts for gradient accumulation.

        `draw` identifies the random draws, with each utterance's id: the same draw has the same masks.
        A rank that is left without an utterance gets a part with nothing to score, since all ranks take every step.
        """
        labels = self.utterances.labels
        counts = Counts(len(batch), sum(len(labels[utterance]) for utterance in batch))
        share = batch[rank::world_size]
        groups = [group for group in (share[part::parts] for part in range(parts)) if group]
        return [self._load(group, counts, draw) for group in groups] or [self._load_unscored(batch[0], counts)]

    def _load(self, ids: list[str], counts: Counts, draw: str) -> Batch:
        features = [spec_augment(self.utterances.features(key), self.augmentation, f"{draw}/{key}") for key in ids]
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


def group_by_length(lengths: Mapping[str, int], seconds: float) -> Iterator[list[str]]:
    """Ids by ascending `lengths` in frames, in groups of at most `seconds` of padded audio each."""
    order = sorted(lengths, key=lambda key: (lengths[key], key))
    return cut_into_batches(order, lengths, seconds * FRAMES_PER_SECOND)


def make_scoring_batches(utterances: Utterances, seconds: float, rank: int, world_size: int) -> Iterator[Batch]:
    """A rank's share of a set, utterances of similar length together, at most `seconds` of padded audio in a batch."""
    lengths = {key: utterances.frame_count(key) for key in utterances.texts}
    share = sorted(lengths, key=lambda key: (lengths[key], key))[rank::world_size]
    for ids in group_by_length({key: lengths[key] for key in share}, seconds):
        labels = [utterances.labels[key] for key in ids]
        counts = Counts(len(ids), sum(map(len, labels)))
        yield collate(ids, [utterances.features(key) for key in ids], labels, counts)
