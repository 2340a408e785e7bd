"""Reading ahead: what the next steps need is read while the device works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")

AHEAD = 2  # items that are read before they are asked for


def read_ahead(
    load: Callable[[Item], Content], items: Sequence[Item], ahead: int = AHEAD
) -> Generator[Content, None, None]:
    """What `load` gives for each item, in their order, read by a thread. An error is raised at the item that it is of.

    Features are cached, so that reading copies memory and waits for disks: a thread does that beside the training, and
    ends with the generator, which is to be closed where it is left early.
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
