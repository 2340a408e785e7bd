"""A disk that loses its power: a real ext4 in a file, which from one moment on keeps nothing more.

After the cut it holds what was synced, and what the kernel happened to write back by itself. Mounting it again replays
the journal, as a machine does when its power is back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# The kernel's EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32), and its flag for: not even the journal is written out.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
# Without ext4's own help for programs that forget to sync before a rename, and with a journal that is not written
# every five seconds: what is not synced has no chance.
_OPTIONS = "loop,noauto_da_alloc,commit=300"


@dataclass
class PowerCutDisk:
    """An ext4 of its own at `folder`; `cut` and `restore` in turns."""

    folder: Path
    _images: int = 0

    def cut(self) -> None:
        """Lose the power: every write, sync and rename from now on fails, and what was not synced is gone."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Mount again what is left, once no process of before lives.

        It is mounted from a copy: a mount that a dying process still holds would keep the old file system alive.
        """
        before = self._image
        self._images += 1
        shutil.copyfile(before, self._image)
        self.unmount()
        before.unlink()
        _mount(self._image, self.folder)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def make(self, size: str) -> None:
        """Make the file system and mount it; skip the test with a reason where that fails."""
        self.folder.mkdir()
        try:
            subprocess.run(["truncate", "--size", size, str(self._image)], check=True, capture_output=True)
            subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True, capture_output=True)
            _mount(self._image, self.folder)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error).encode()
            pytest.skip(
                "NOT TESTED: a power cut, because no ext4 can be mounted here "
                f"({reason.decode().strip()}); be root where there are loop devices"
            )

    @property
    def _image(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{self._images}.ext4")


@contextlib.contextmanager
def mount_power_cut_disk(folder: Path, size: str) -> Iterator[PowerCutDisk]:
    """A disk at `folder`, a new one, of `size` (64M); unmounted in the end."""
    disk = PowerCutDisk(folder)
    disk.make(size)
    try:
        yield disk
    finally:
        disk.unmount()


def _mount(image: Path, folder: Path) -> None:
    subprocess.run(["mount", "-o", _OPTIONS, str(image), str(folder)], check=True, capture_output=True)
