"""One rank of a group: `python -m hanging_rank FOLDER`. Rank 0 waits for rank 1, which says that it hangs."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from model.runtime.rank import leave_stalled, run_rank


def work() -> None:
    """Wait for a sum of both ranks, without a limit of one's own, or hang."""
    dist.barrier()
    if dist.get_rank() == 1:
        leave_stalled("training made no progress for 5 s", "pathlib.py:1 in read_text", 1)
    dist.all_reduce(torch.ones(1))


if __name__ == "__main__":
    run_rank(work, Path(sys.argv[1]))
