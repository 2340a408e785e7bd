"""No new trial starts while the disk of a study's folder is nearly full, so that it is never filled by one.

Whatever runs goes on: it needs room for its last checkpoints, and so do the events, which are small.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from study.config.disk import GIB, DiskSettings

LOOK_SECONDS = 1.0  # between two looks at the disk
DEFAULT_SHARE, MOST_BY_DEFAULT = 0.05, 2 * GIB  # of a disk that are left free where the study file says nothing
Show = Callable[[int, str | None], None]


class Usage(Protocol):
    """Bytes of a disk: `shutil.disk_usage`."""

    @property
    def total(self) -> int: ...
    @property
    def free(self) -> int: ...


class Admission(Protocol):
    """Decides whether one more trial may start: `study.execution.capacity.Capacity`."""

    def admits(self, running: int) -> bool: ...


class Study(Protocol):
    """A study that ends in order once it has a reason to stop."""

    stopped: str | None

    @property
    def is_paused(self) -> bool:
        """Whether a person has it start nothing."""


def find_reserve(settings: DiskSettings, total: int) -> int:
    """The bytes that are left free on a disk of so many."""
    if settings.reserve_gib is not None:
        return round(settings.reserve_gib * GIB)
    return min(round(DEFAULT_SHARE * total), MOST_BY_DEFAULT)


class DiskWatch:
    """Shows a wait for free space where `show` shows what trials wait for; stops a study that waits for too long."""

    def __init__(
        self,
        folder: Path,
        settings: DiskSettings,
        show: Show,
        study: Study,
        clock: Callable[[], float] = time.monotonic,
        measure: Callable[[Path], Usage] = shutil.disk_usage,
    ) -> None:
        """`folder` is on the disk; `show` gets how many trials have room, and what others wait for."""
        self._folder, self._settings, self._show, self._study = folder, settings, show, study
        self._clock, self._measure = clock, measure
        self._next_look = -math.inf
        self._wait: str | None = None  # what is waited for, while it is
        self._idle_since = math.inf  # since when no trial runs and none may start
        self._shown: tuple[int, str | None] = (1, None)  # by the cluster's capacity

    def show(self, concurrency: int, waits_for: str | None) -> None:
        """Show what the cluster's capacity has to say, unless free space is what is waited for."""
        self._shown = concurrency, waits_for
        self._show(concurrency, self._wait or waits_for)

    def limit(self, admission: Admission) -> Admission:
        """The same admission, of trials for which there is room on the disk as well."""
        return _Limited(admission, self)

    def has_room(self, running: int) -> bool:
        """Whether a trial may start beside so many running ones."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look, before = now + LOOK_SECONDS, self._wait
            self._wait = self._look()
            if self._wait != before:
                self._show(self._shown[0], self._wait or self._shown[1])
        if self._wait is None or running or self._study.is_paused:
            self._idle_since = math.inf
            return self._wait is None
        self._idle_since = min(self._idle_since, now)
        if now - self._idle_since >= self._settings.wait_seconds:
            self._study.stopped = f"waited {self._settings.wait_seconds:g} s (disk.wait_seconds): {self._wait}"
        return False

    def _look(self) -> str | None:
        try:
            usage = self._measure(self._folder)
        except OSError:  # a network file system that does not answer; whoever writes next meets it
            return None
        reserve = find_reserve(self._settings, usage.total)
        if usage.free >= reserve:
            return None
        return (
            f"waiting for free space: the disk of {self._folder} has {format_bytes(usage.free)} free, and the last "
            f"{format_bytes(reserve)} are left to trials that run (disk.reserve_gib)"
        )


class _Limited:
    def __init__(self, admission: Admission, disk: DiskWatch) -> None:
        self._admission, self._disk = admission, disk

    def admits(self, running: int) -> bool:
        is_admitted = self._admission.admits(running)  # asked in any case: it looks after its requests meanwhile
        return self._disk.has_room(running) and is_admitted


def format_bytes(count: float) -> str:
    """1.5 GiB, 16.7 MiB or 20 KiB."""
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / 2**20:.3g} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
