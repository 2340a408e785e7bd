"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 90.0  # that a busy machine may take
Found = TypeVar("Found")


def wait_for(find: Callable[[], Found], seconds: float = SECONDS) -> Found:
    """What `find` gives once it is true; an AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found
