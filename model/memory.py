"""How this process gets its memory, how it gives it back, and how it says that there is none left."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import traceback
from collections.abc import Iterator

import torch

from model.errors import OutOfMemoryError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt's parameters (glibc malloc.h)

# What torch, CUDA's libraries and C++ say where an allocation fails without an error class of its own.
_SAID = ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "ALLOC_FAILED", "bad_alloc")


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


def give_back_memory() -> None:
    """Collect what nothing refers to, and hand free memory back to the device and to the operating system."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def is_memory_failure(error: BaseException) -> bool:
    """Whether the error says that memory could not be had, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


@contextlib.contextmanager
def naming_memory_failure(tried: str, instead: str) -> Iterator[None]:
    """Within it a failure to get memory is an OutOfMemoryError: what was `tried`, and what to do `instead`."""
    try:
        yield
    except Exception as error:
        if not is_memory_failure(error):
            raise
        raise OutOfMemoryError(f"out of memory in {tried}; {instead}") from None


def forget_locals(error: BaseException, outer: BaseException | None) -> None:
    """Empty the frames that the error left, so that whoever keeps it does not keep a model and its activations.

    What came before `outer`, the error that was being handled all along, is left as it is.
    """
    earlier: BaseException | None = error
    while earlier is not None and earlier is not outer:
        traceback.clear_frames(earlier.__traceback__)
        earlier = earlier.__cause__ or earlier.__context__
