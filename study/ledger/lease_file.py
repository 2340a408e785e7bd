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
_DEFAULT_INTERVAL = 2.0  # seconds between the heartbeats of a holder that cannot be read


@dataclass(frozen=True)
class Machine:
    """A machine from one boot to the next, the range of its kernel's locks."""

    host: str
    boot: str

    @classmethod
    def detect(cls) -> Machine:
        """This machine. Where there is no boot id, the network card's address replaces it."""
        with contextlib.suppress(OSError):
            return cls(socket.gethostname(), _BOOT_ID.read_text(encoding="ascii").strip())
        return cls(socket.gethostname(), f"{uuid.getnode():x}")


@dataclass(frozen=True)
class Holder:
    """The process that wrote a lease."""

    id: str
    machine: Machine
    pid: int
    interval: float  # seconds between two heartbeats
    locked: bool  # whether it has the kernel's lock too
    brief: bool = False  # whether it only records commands

    def __str__(self) -> str:
        return f"process {self.pid} on {self.machine.host}" if self.pid else "another process"


def format_lease(holder: Holder, heartbeat: int) -> bytes:
    """The file's content, of the same length at every heartbeat, which therefore neither cuts nor extends the file."""
    content = {
        "holder": holder.id,
        "host": holder.machine.host,
        "boot": holder.machine.boot,
        "pid": holder.pid,
        "every": holder.interval,
        "locked": holder.locked,
        "brief": holder.brief,
        "heartbeat": f"{heartbeat:012d}",
    }
    return (json.dumps(content) + "\n").encode()


def read_lease(folder: Path) -> bytes | None:
    """The file's content; None when no process holds the folder."""
    try:
        return (folder / LEASE).read_bytes()
    except FileNotFoundError:
        return None


def find_last_heartbeat(folder: Path) -> float | None:
    """When the process that holds the folder wrote its last heartbeat, in Unix seconds; None where none holds it."""
    with contextlib.suppress(OSError):
        return (folder / LEASE).stat().st_mtime
    return None


def read_holder(folder: Path) -> Holder | None:
    """The holder that the file names; an unknown one where the file is damaged, None where there is no file."""
    lease = read_lease(folder)
    if lease is None:
        return None
    try:
        content = json.loads(lease)
        machine = Machine(content["host"], content["boot"])
        pid, interval, locked = int(content["pid"]), float(content["every"]), bool(content["locked"])
        return Holder(content["holder"], machine, pid, interval, locked, bool(content.get("brief")))
    except (ValueError, KeyError, TypeError):
        return Holder("", Machine("", ""), 0, _DEFAULT_INTERVAL, False)


def make_holder(machine: Machine, interval: float, locked: bool, brief: bool = False) -> Holder:
    """This process as a holder, under a new id."""
    return Holder(uuid.uuid4().hex, machine, os.getpid(), interval, locked, brief)
