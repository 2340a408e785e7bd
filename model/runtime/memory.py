"""How this process allocates and releases memory, and how it recognises that there is none left."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from model.errors import OutOfMemoryError

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # mallopt's parameters (glibc malloc.h)
# One arena: what the thread that reads batches allocates is freed by another one, for the next batch.
KEEP_FREED = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_ARENA_MAX: 1}
GLIBC_DEFAULTS = {M_MMAP_MAX: 65_536, M_TRIM_THRESHOLD: 131_072}

# Texts of the RuntimeErrors that torch, CUDA's libraries, C++ and oneDNN (which names no reason) raise when an
# allocation fails.
_ALLOCATION_FAILURES = (
    *("out of memory", "can't allocate memory", "DefaultCPUAllocator", "ALLOC_FAILED", "bad_alloc"),
    *("could not create a primitive", "could not execute a primitive", "could not create a memory"),
)


def keep_freed_memory(keep: bool = True) -> bool:
    """Let the C library keep freed memory for the next allocation, or return to its defaults; whether that worked.

    By default glibc returns every large block to the system at once, so each training step on a CPU allocates all of
    its tensors again and waits until their pages are cleared: about a tenth of the step. For processes that train or
    score.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return min(mallopt(name, value) for name, value in (KEEP_FREED if keep else GLIBC_DEFAULTS).items()) == 1


def release_memory() -> None:
    """Collect unreachable objects and return free memory to the device and to the operating system."""
    # Where a backward pass failed, torch's queue of this thread holds what is left of its graph until one succeeds.
    with torch.inference_mode(False), torch.enable_grad():
        torch.zeros(1, requires_grad=True).sum().backward()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def hold_back_memory(device: torch.device, share: float) -> Iterator[None]:
    """Let this process have all but a share of a GPU's memory within the block; nothing changes on a CPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_per_process_memory_fraction(1.0 - share, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def reset_peak_memory(device: torch.device) -> None:
    """Measure `peak_memory_bytes` from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # no Linux, or a container that forbids it: then the peak is the process's own
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held since the reset: by tensors on a GPU, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, LookupError, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_memory_failure(error: BaseException) -> bool:
    """Whether the error means that an allocation failed, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATION_FAILURES)


def first_sentence(error: BaseException) -> str:
    """The first sentence of the error's message; CUDA's have ten."""
    line = next(iter(str(error).strip().splitlines()), "")
    return line.split(". ")[0].rstrip(".") or type(error).__name__


@contextlib.contextmanager
def convert_memory_failures(action: str, advice: str) -> Iterator[None]:
    """Raise a failed allocation within the block as an OutOfMemoryError that names the action and ends in advice."""
    try:
        yield
    except Exception as error:
        if not is_memory_failure(error):
            raise
        raise OutOfMemoryError(f"out of memory in {action} ({first_sentence(error)}); {advice}") from None


def clear_tracebacks(error: BaseException, outer: BaseException | None) -> None:
    """Empty the frames of the error's traceback, so that an error that is kept does not keep a model in memory.

    `outer`, the exception that was being handled when the run started, and what it came from are left as they are.
    """
    earlier: BaseException | None = error
    while earlier is not None and earlier is not outer:
        traceback.clear_frames(earlier.__traceback__)
        earlier = earlier.__cause__ or earlier.__context__
