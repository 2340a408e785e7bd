"""Signs of progress: work that takes long notes each step of it, so that whoever waits for it can see that it hangs.

A sign is noted by the thread that does the work, and reaches whoever follows that thread; otherwise it is for nobody.
What takes minutes without one, such as compiling layers or copying a large file, has to fit in what is waited for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_followers = threading.local()


def note_progress() -> None:
    """The work of this thread has got further: a step was taken, a batch was scored, a part was written.

    Costs a tenth of a microsecond where nobody follows, so a loop may note each of its passes.
    """
    follower: Callable[[], None] | None = getattr(_followers, "current", None)
    if follower is not None:
        follower()


@contextlib.contextmanager
def follow_progress(follower: Callable[[], None]) -> Iterator[None]:
    """Call `follower` at each sign of progress of this thread in the block. It has to be quick, and may not raise."""
    before = getattr(_followers, "current", None)
    _followers.current = follower
    try:
        yield
    finally:
        _followers.current = before
