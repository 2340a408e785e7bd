"""The workers of a run: one process each, joined by torch.distributed's default group where there is one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Workers:
    """This worker's rank among `world` of them, and its device."""

    rank: int
    world: int
    device: torch.device

    def wait(self) -> None:
        """Until every worker is here."""
        if self.world > 1:
            dist.barrier()

    def summed(self, values: list[float]) -> list[float]:
        """Each value summed over all workers."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()


def current_workers() -> Workers:
    """What the process group says; alone where there is none."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    if not dist.is_available() or not dist.is_initialized():
        return Workers(0, 1, device)
    return Workers(dist.get_rank(), dist.get_world_size(), device)
