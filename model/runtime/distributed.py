"""Where a process stands in torch.distributed's default group, and the collectives that a run needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """Rank of this process among `world_size` of them, and its device. Without a process group it is 0 of 1."""

    rank: int
    world_size: int
    device: torch.device

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            dist.barrier()

    def sum_over_ranks(self, values: list[float]) -> list[float]:
        """Each value summed over all ranks, in float64."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max_over_ranks(self, values: list[float]) -> list[float]:
        """The largest of each value over all ranks, in float64."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def from_rank_0(self, value: T) -> T:
        """The value that rank 0 has, on every rank; the others' own do not count. It has to be picklable."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather_over_ranks(self, value: T) -> list[T]:
        """The value of each rank, on every rank. It has to be picklable."""
        if self.world_size == 1:
            return [value]
        values: list[T] = [value] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def _reduce(self, values: list[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world_size == 1:
            return values
        reduced = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(reduced, op=operation)
        return reduced.tolist()


def current_context() -> DistributedContext:
    """The context of the process group that is initialised, or of a single process."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    if not dist.is_available() or not dist.is_initialized():
        return DistributedContext(0, 1, device)
    return DistributedContext(dist.get_rank(), dist.get_world_size(), device)
