"""How this process gets its memory from the operating system."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt's parameters (glibc malloc.h)


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for the next allocation; false where it knows no such setting.

    By default it hands every large block back at once, so each step of a training on a CPU asks for all of its tensors
    anew and waits for the pages to be cleared: about a tenth of the step. For processes that train or score.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
