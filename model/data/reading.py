"""Reading ahead: what the next steps need is read while the device works on this one, in the order of the steps.

A thread copies cached features. Where features are computed, processes do it: torch's DataLoader hands them one batch
after the other. They stay for the next epoch and the next training of this process, and end with it. Where one is lost,
as where the system ends it for want of memory, others take their place, and read on at the share that is missing.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from model.corpora.corpus import read_corpus
from model.data.batches import Batch, TrainingSet
from model.data.epoch_plan import Rows
from model.data.tokenizer import Tokenizer
from model.errors import ReadersLostError
from model.recipe.recipe import AugmentationConfig, DataConfig
from model.runtime.stacks import answer_signal

Item = TypeVar("Item")
Content = TypeVar("Content")

AHEAD = 2  # items that are read before they are asked for
READERS = 2  # processes, where features are computed and the recipe does not say
LOSSES = 3  # of processes that read, without a share read in between, after which no others take their place


@dataclass(frozen=True)
class TrainingData:
    """What a training set is opened from, in any process."""

    corpus: str
    tokenizer: str
    data: DataConfig
    augmentation: AugmentationConfig
    share: float

    @property
    def readers(self) -> int:
        """Processes that read; 0 for a thread."""
        if self.data.readers is not None:
            return self.data.readers
        return READERS if self.augmentation.changes_waveforms else 0


@dataclass(frozen=True)
class Share:
    """A rank's share of a batch, as `TrainingSet.load_share` loads it."""

    source: TrainingData
    rows: Rows
    rank: int
    world_size: int
    parts: int
    draw: str


def open_training_set(source: TrainingData) -> TrainingSet:
    """The training set of a corpus on disk."""
    tokenizer = Tokenizer(Path(source.tokenizer))
    return TrainingSet(read_corpus(Path(source.corpus)), source.data, source.augmentation, tokenizer, source.share)


_open_in_reader = functools.lru_cache(2)(open_training_set)


def load_share(training_set: TrainingSet, share: Share) -> list[Batch]:
    """The parts of a share."""
    return training_set.load_share(share.rows, share.rank, share.world_size, share.parts, share.draw)


def _load_pinned(training_set: TrainingSet, share: Share) -> list[Batch]:
    parts = load_share(training_set, share)
    return [part.pin_memory() for part in parts] if torch.cuda.is_available() else parts


def read_shares(training_set: TrainingSet, shares: Sequence[Share]) -> Generator[list[Batch], None, None]:
    """The parts of each share, in their order; an error is raised at the share that it is of."""
    readers = shares[0].source.readers if shares else 0
    if not readers:
        return read_ahead(functools.partial(_load_pinned, training_set), shares)
    return _read_in_processes(shares, readers)


def read_ahead(
    load: Callable[[Item], Content], items: Sequence[Item], ahead: int = AHEAD
) -> Generator[Content, None, None]:
    """What `load` gives for each item, in their order, read by a thread. An error is raised at the item that it is of.

    The thread ends with the generator, which is to be closed where it is left early.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        pending: deque[Future[Content]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(load, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _read_in_processes(shares: Sequence[Share], readers: int) -> Generator[list[Batch], None, None]:
    read = losses = 0
    loaded = _load_in_processes(shares, readers)
    while read < len(shares):
        try:
            parts = next(loaded)
        except (RuntimeError, OSError, EOFError) as error:
            if not _is_loss(error):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
        else:
            if isinstance(parts, Exception):
                raise parts
            yield parts
            read, losses = read + 1, 0
            continue
        losses += 1
        # The error is gone, and was the last to hold the old loader but for the cache: its processes end here.
        _make_loader.cache_clear()
        if losses == LOSSES:
            raise ReadersLostError(
                f"processes that read data were lost {losses} times in a row, perhaps for want of memory ({reason}); "
                "lower data.readers, or give this machine more memory"
            )
        logging.getLogger(__name__).warning(
            "a process that reads data was lost, perhaps for want of memory (%s); others go on in its place", reason
        )
        loaded = _load_in_processes(shares[read:], readers)


def _load_in_processes(shares: Sequence[Share], readers: int) -> Iterator[list[Batch] | Exception]:
    loader, queue = _make_loader(readers)
    queue.shares = shares
    yield from loader


def _is_loss(error: Exception) -> bool:
    """Whether an error of the loader's own is that a process of it is gone, or a connection to one.

    Others may be of a batch that was read, such as one that does not fit into pinned memory.
    """
    return isinstance(error, OSError | EOFError) or "exited unexpectedly" in str(error)


@dataclass
class _Queue(Sampler[Share]):
    """The shares that the loader's processes are handed, in turn."""

    shares: Sequence[Share] = field(default_factory=list)

    def __iter__(self) -> Iterator[Share]:
        return iter(self.shares)

    def __len__(self) -> int:
        return len(self.shares)


class _Shares(Dataset[list[Batch] | Exception]):
    """What a reader makes of a share that it is handed; an error is returned, since torch would wrap its message."""

    def __getitem__(self, share: Share) -> list[Batch] | Exception:
        torch.set_num_threads(1)
        try:
            return load_share(_open_in_reader(share.source), share)
        except Exception as error:
            return error


def _start_reader(number: int) -> None:
    """A reader that hangs says where, when it is asked."""
    answer_signal()


@functools.lru_cache(1)
def _make_loader(readers: int) -> tuple[DataLoader[Any], _Queue]:
    queue = _Queue()
    loader: DataLoader[Any] = DataLoader(
        _Shares(),
        batch_size=None,
        sampler=queue,
        num_workers=readers,
        prefetch_factor=AHEAD,
        persistent_workers=True,
        worker_init_fn=_start_reader,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="forkserver",
    )
    return loader, queue
