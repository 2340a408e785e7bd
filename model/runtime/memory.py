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
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1}
USUAL = {M_MMAP_MAX: 65_536, M_TRIM_THRESHOLD: 131_072}

# What torch, CUDA's libraries, C++ and oneDNN (which names no reason) say where an allocation fails, as RuntimeErrors.
_SAID = (
    *("out of memory", "can't allocate memory", "DefaultCPUAllocator", "ALLOC_FAILED", "bad_alloc"),
    *("could not create a primitive", "could not execute a primitive", "could not create a memory"),
)


def keep_freed_memory(keep: bool = True) -> bool:
    """Have the C library keep what is freed for the next allocation, or no longer; false where it cannot be told.

    By default it hands every large block back at once, so each step of a training on a CPU asks for all of its tensors
    anew and waits for the pages to be cleared: about a tenth of the step. For processes that train or score.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return min(mallopt(name, value) for name, value in (KEEPING if keep else USUAL).items()) == 1


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


def first_words(error: BaseException) -> str:
    """The first sentence of what the error says; CUDA says ten."""
    line = next(iter(str(error).strip().splitlines()), "")
    return line.split(". ")[0].rstrip(".") or type(error).__name__


@contextlib.contextmanager
def naming_memory_failure(tried: str, instead: str) -> Iterator[None]:
    """Within it a failure to get memory is an OutOfMemoryError: what was `tried`, and what to do `instead`."""
    try:
        yield
    except Exception as error:
        if not is_memory_failure(error):
            raise
        raise OutOfMemoryError(f"out of memory in {tried} ({first_words(error)}); {instead}") from None


def forget_locals(error: BaseException, outer: BaseException | None) -> None:
    """Empty the frames that the error left, so that whoever keeps it does not keep a model and its activations.

    What came before `outer`, the error that was being handled all along, is left as it is.
    """
    earlier: BaseException | None = error
    while earlier is not None and earlier is not outer:
        traceback.clear_frames(earlier.__traceback__)
        earlier = earlier.__cause__ or earlier.__context__
