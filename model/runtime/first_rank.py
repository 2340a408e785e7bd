"""What rank 0 does alone while the other ranks wait for it: for hours, where a collective would have given up.

So they wait outside of any, and look into the store where the ranks have met. Rank 0 writes there that it lives: a rank
that is stopped, or whose machine is gone, is not waited for. That its work hangs is for rank 0 itself to see.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import torch.distributed as dist

from model.errors import UserError
from model.runtime.progress import note_progress

SECONDS = 1.0  # between two signs of life, and between two looks for them
LIVES, DONE = "decred/rank-0-lives", "decred/rank-0-is-done"  # keys of the store


@contextlib.contextmanager
def go_first(store: dist.Store) -> Iterator[None]:
    """Have the other ranks wait for this one, rank 0, until the block has ended without an error."""
    over = threading.Event()

    def show_life() -> None:
        with contextlib.suppress(dist.DistError):  # whoever holds the store is gone, as the other ranks see too
            while not over.wait(SECONDS):
                store.add(LIVES, 1)

    thread = threading.Thread(target=show_life, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    store.set(DONE, "")


def wait_for_first(store: dist.Store) -> None:
    """Wait until rank 0 has gone first. Each of its signs of life is one of progress here.

    Raises a UserError where rank 0 held the store, and has ended.
    """
    seen = 0
    try:
        while not store.check([DONE]):
            time.sleep(SECONDS)
            if (signs := store.add(LIVES, 0)) != seen:
                seen = signs
                note_progress()
    except dist.DistError:
        raise UserError("worker 0, which prepares what all need, has ended; its own message says why") from None
