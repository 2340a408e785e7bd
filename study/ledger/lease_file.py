"""The file `lease.json`: which process holds a study folder, and on which machine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

LEASE = "lease.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EVERY = 2.0  # seconds between the beats of a holder that cannot be read


@dataclass(frozen=True)
class Machine:
    """A machine from one boot to the next: all that its kernel's locks can tell about."""

    host: str
    boot: str

    @classmethod
    def this(cls) -> Machine:
        """Where there is no boot id, the network card's address stands for it."""
        with contextlib.suppress(OSError):
            return cls(socket.gethostname(), _BOOT_ID.read_text(encoding="ascii").strip())
        return cls(socket.gethostname(), f"{uuid.getnode():x}")


@dataclass(frozen=True)
class Holder:
    """Whose lease lies in a folder."""

    id: str
    machine: Machine
    pid: int
    every: float  # seconds between two beats
    locked: bool  # it has the kernel's lock too

    def __str__(self) -> str:
        return f"process {self.pid} on {self.machine.host}" if self.pid else "another process"


def lease_text(holder: Holder, beat: int) -> bytes:
    """What the file holds; always as long for one holder, so that beats neither cut the file nor make it grow."""
    content = {
        "holder": holder.id,
        "host": holder.machine.host,
        "boot": holder.machine.boot,
        "pid": holder.pid,
        "every": holder.every,
        "locked": holder.locked,
        "beat": f"{beat:012d}",
    }
    return (json.dumps(content) + "\n").encode()


def lease_bytes(folder: Path) -> bytes | None:
    """The file as it is; None when nobody holds the folder."""
    try:
        return (folder / LEASE).read_bytes()
    except FileNotFoundError:
        return None


def lease_holder(folder: Path) -> Holder | None:
    """Whose lease it is; one that is damaged is somebody's that is not known."""
    content = lease_bytes(folder)
    if content is None:
        return None
    try:
        said = json.loads(content)
        machine = Machine(said["host"], said["boot"])
        return Holder(said["holder"], machine, int(said["pid"]), float(said["every"]), bool(said["locked"]))
    except (ValueError, KeyError, TypeError):
        return Holder("", Machine("", ""), 0, _EVERY, False)


def new_holder(machine: Machine, every: float, locked: bool) -> Holder:
    """This process, under an id of its own."""
    return Holder(uuid.uuid4().hex, machine, os.getpid(), every, locked)
