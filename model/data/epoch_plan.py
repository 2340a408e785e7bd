"""Which utterances make up each batch: a seeded shuffle of all of them, sorted into buckets by length and labels.

Every pass over the data draws its own order of all utterances, of all sets and speeds. Each goes in that order into the
bucket of its length and number of labels, buckets are cut into batches, and the batches are shuffled. So what is drawn
when says nothing about where an utterance stands in its corpus. An epoch is a pass, or so many steps of the passes one
after the other. Only lengths are needed: no audio is read. Utterances are rows of a training set, N in all.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Rows = np.ndarray  # (B,) int64
LAST_SHARE = 0.5  # of a batch's seconds: a bucket's last batch that has less takes some of the one before it


@dataclass(frozen=True)
class DataPosition:
    """Where a training is in its data: passes that are done, and batches of the one after them."""

    passes: int = 0
    batches: int = 0


@dataclass(frozen=True, eq=False)
class PlannedBatch:
    """The utterances of an optimiser step, as rows, and the pass over the data that they belong to (from 0)."""

    data_pass: int
    rows: Rows


class EpochPlanner:
    """Plans epochs of batches whose padded length is at most `batch_seconds`; equal plans in every process.

    `seconds` (N,) and `labels` (N,) are the utterances' lengths. Each of the `buckets` holds utterances of similar
    length, and about the same duration in all, and is divided into `label_buckets` of similar numbers of labels; with
    one bucket, utterances of any length are batched together.
    """

    def __init__(
        self,
        seconds: np.ndarray,
        labels: np.ndarray,
        batch_seconds: float,
        buckets: int,
        label_buckets: int,
        seed: int,
        rates: np.ndarray | None = None,
    ) -> None:
        """`rates` (N,) is how often each utterance is seen in a pass on average; by default each is, once."""
        self._groups = None if rates is None else [(rate, np.flatnonzero(rates == rate)) for rate in np.unique(rates)]
        self._seconds, self._batch_seconds, self._seed = seconds, batch_seconds, seed
        self._buckets = _choose_buckets(seconds, labels, buckets, label_buckets)
        self._last: tuple[int, list[Rows]] | None = None

    def find_bucket(self, rows: Rows) -> int:
        """The bucket of a batch's rows: that of the first, since all are in one."""
        return int(self._buckets[rows[0]])

    def plan_epoch(self, start: DataPosition, steps: int | None) -> tuple[list[PlannedBatch], DataPosition]:
        """The batches of the epoch that starts at `start`, and where it ends.

        It has `steps` batches, of as many passes as that takes; or with None what is left of the pass.
        """
        planned: list[PlannedBatch] = []
        data_pass, done = start.passes, start.batches
        while True:
            rest = self.plan_pass(data_pass)[done:]
            missing = len(rest) if steps is None else steps - len(planned)
            planned += [PlannedBatch(data_pass, rows) for rows in rest[:missing]]
            if missing < len(rest):
                return planned, DataPosition(data_pass, done + missing)
            data_pass, done = data_pass + 1, 0
            if missing == len(rest):
                return planned, DataPosition(data_pass, done)

    def plan_pass(self, data_pass: int) -> list[Rows]:
        """The batches of a pass in their order; every utterance is in one of them."""
        if self._last is None or self._last[0] != data_pass:  # asked for several times an epoch
            self._last = data_pass, self._plan(data_pass)
        return self._last[1]

    def _plan(self, data_pass: int) -> list[Rows]:
        draw = _make_draw(f"{self._seed}/{data_pass}")
        order = draw.permutation(len(self._seconds) if self._groups is None else self._choose_rows(data_pass))
        buckets = self._buckets[order]
        by_bucket = order[np.argsort(buckets, kind="stable")]
        ends = np.cumsum(np.bincount(buckets))
        contents = np.split(by_bucket, ends[:-1])
        batches = [
            batch for content in contents for batch in cut_into_batches(content, self._seconds, self._batch_seconds)
        ]
        return [batches[place] for place in draw.permutation(len(batches))]

    def _choose_rows(self, data_pass: int) -> Rows:
        """The utterances of a pass: those of each rate go on in rounds of all of them, from pass to pass."""
        assert self._groups is not None
        chosen = [np.empty(0, dtype=np.int64)]
        for rate, rows in self._groups:
            start, end = (int(number * rate * len(rows)) for number in (data_pass, data_pass + 1))
            for number in range(start // len(rows), -(-end // len(rows))):
                first = number * len(rows)
                order = _make_draw(f"{self._seed}/{rate!r}/round {number}").permutation(rows)
                chosen.append(order[max(0, start - first) : end - first])
        return np.concatenate(chosen)


def _make_draw(key: str) -> np.random.RandomState:
    """Random numbers that a key identifies: numpy keeps those of RandomState the same in all its versions."""
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def _choose_buckets(seconds: np.ndarray, labels: np.ndarray, buckets: int, label_buckets: int) -> np.ndarray:
    """(N,) the bucket of each utterance."""
    bounds = _divide(np.sort(seconds), buckets)
    chosen = np.searchsorted(bounds, seconds)
    if label_buckets == 1:
        return chosen
    within = np.zeros_like(chosen)
    for bucket in range(buckets):
        inside = chosen == bucket
        if inside.any():
            within[inside] = np.searchsorted(_divide(np.sort(labels[inside]), label_buckets), labels[inside])
    return chosen * label_buckets + within


def _divide(ascending: np.ndarray, parts: int) -> np.ndarray:
    """The largest value of each part but the last, such that all parts have about the same total."""
    totals = np.cumsum(ascending, dtype=np.float64)
    shares = totals[-1] * np.arange(1, parts) / parts
    return ascending[np.searchsorted(totals, shares)]


def choose_share(ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """(N,) whether each id is in a share of them, at least one: a larger share holds all of a smaller one."""
    if share >= 1.0:
        return np.ones(len(ids), dtype=bool)
    places = [hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest() for key in ids]
    first = sorted(range(len(ids)), key=lambda row: (places[row], ids[row]))
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[first[: max(1, round(share * len(ids)))]] = True
    return chosen


def cut_into_batches(rows: Rows, lengths: np.ndarray, limit: float) -> Iterator[Rows]:
    """Rows in their order, in batches whose padded length is at most `limit`, or of one row that is longer.

    Where the last batch would be small, it takes some of the one before it.
    """
    starts = _find_starts(lengths[rows].tolist(), limit)
    if len(starts) > 1:
        starts[-1] = _balance(lengths[rows], starts, limit)
    for start, end in itertools.pairwise([*starts, len(rows)]):
        yield rows[start:end]


def _balance(lengths: np.ndarray, starts: list[int], limit: float) -> int:
    """Where the last batch begins: halfway through what it and the one before it hold, if it is small and both fit."""
    last = lengths[starts[-1] :]
    half = (starts[-2] + len(lengths)) // 2
    is_small = last.max() * len(last) < LAST_SHARE * limit
    fits = half < starts[-1] and lengths[half:].max() * (len(lengths) - half) <= limit
    return half if is_small and fits else starts[-1]


def _find_starts(lengths: list[float], limit: float) -> list[int]:
    """Where each batch begins, if each takes all that fits."""
    starts: list[int] = []
    longest, count = 0.0, 0
    for index, length in enumerate(lengths):
        longest, count = max(longest, length), count + 1
        if not starts or (count > 1 and longest * count > limit):
            starts.append(index)
            longest, count = length, 1
    return starts
