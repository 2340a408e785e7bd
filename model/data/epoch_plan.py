"""Which utterances make up each batch: a seeded shuffle of all of them, sorted into buckets by length.

Every pass over the data draws its own order of all utterances, of all sets and speeds. Each goes in that order into the
bucket of its length, buckets are cut into batches as they fill, and the batches are shuffled. So what is drawn when
says nothing about where an utterance stands in its corpus. An epoch is a pass, or so many steps of the passes one after
the other. Only durations are needed: no audio is read.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataPosition:
    """Where a training is in its data: passes that are done, and batches of the one after them."""

    passes: int = 0
    batches: int = 0


@dataclass(frozen=True)
class PlannedBatch:
    """The utterances of an optimiser step, as ids, and the pass over the data that they belong to (from 0)."""

    data_pass: int
    ids: list[str]


class EpochPlanner:
    """Plans epochs of batches whose padded length is at most `batch_seconds`; equal plans in every process.

    `seconds` is the duration of each utterance. Each of the `buckets` holds utterances of similar length, and about the
    same duration in all; with one bucket, utterances of any length are batched together.
    """

    def __init__(self, seconds: Mapping[str, float], batch_seconds: float, buckets: int, seed: int) -> None:
        self._seconds, self._batch_seconds, self._seed = seconds, batch_seconds, seed
        self._ids = sorted(seconds)
        bounds = _divide_into_buckets(sorted(seconds.values()), buckets)
        self._buckets = {key: bisect.bisect_left(bounds, seconds[key]) for key in self._ids}

    def plan_epoch(self, start: DataPosition, steps: int | None) -> tuple[list[PlannedBatch], DataPosition]:
        """The batches of the epoch that starts at `start`, and where it ends.

        It has `steps` batches, of as many passes as that takes; or with None what is left of the pass.
        """
        planned: list[PlannedBatch] = []
        data_pass, done = start.passes, start.batches
        while True:
            rest = self.plan_pass(data_pass)[done:]
            missing = len(rest) if steps is None else steps - len(planned)
            planned += [PlannedBatch(data_pass, ids) for ids in rest[:missing]]
            if missing < len(rest):
                return planned, DataPosition(data_pass, done + missing)
            data_pass, done = data_pass + 1, 0
            if missing == len(rest):
                return planned, DataPosition(data_pass, done)

    def plan_pass(self, data_pass: int) -> list[list[str]]:
        """The batches of a pass in their order, as utterance ids; every utterance is in one of them."""
        draw = random.Random(f"{self._seed}/{data_pass}")
        order = draw.sample(self._ids, len(self._ids))
        contents: dict[int, list[str]] = {}
        for key in order:
            contents.setdefault(self._buckets[key], []).append(key)
        batches = [
            batch
            for content in contents.values()
            for batch in cut_into_batches(content, self._seconds, self._batch_seconds)
        ]
        draw.shuffle(batches)
        return batches


def _divide_into_buckets(ascending: list[float], buckets: int) -> list[float]:
    """The longest duration of each bucket but the last, such that all buckets have about the same total."""
    totals = list(itertools.accumulate(ascending))
    shares = [totals[-1] * bucket / buckets for bucket in range(1, buckets)]
    return [ascending[bisect.bisect_left(totals, share)] for share in shares]


def choose_share(ids: Iterable[str], share: float, seed: int) -> set[str]:
    """A share of the ids, at least one, drawn by the seed: a larger share holds all of a smaller one."""
    if share >= 1.0:
        return set(ids)
    order = sorted(ids, key=lambda key: (random.Random(f"{seed}/{key}").random(), key))
    return set(order[: max(1, round(share * len(order)))])


def cut_into_batches(order: Iterable[str], lengths: Mapping[str, float], limit: float) -> Iterator[list[str]]:
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
