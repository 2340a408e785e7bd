"""One driver at a time on a study: a second is refused while the first lives, and takes over when it is dead.

On one machine the kernel decides at once: its lock on the file `lock` ends with the process that holds it. Between
machines, where such locks may not reach, `lease.json` decides: its holder changes the beat in it every few seconds,
and who finds it unchanged for LEASE_SECONDS of its own clock takes over. No clock of two machines is ever compared.

A holder keeps its lease file open and beats into that open file; who takes over puts a new file under the name. So a
holder that was frozen and wakes up cannot take back by accident what it lost, and a full disk stops no beat.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from model.errors import UserError
from study.ledger.lease_file import LEASE, Holder, Machine, lease_bytes, lease_holder, lease_text, new_holder

LOCK = "lock"
BEAT_SECONDS, LEASE_SECONDS = 2.0, 20.0
_MISSED = 3  # beats without which a holder may be dead
_LOOKS = 20  # at another's lease, for each of its beats

Say = Callable[[str], object]


def _to_nobody(line: str) -> None:
    """Says nothing."""


class Lease:
    """A study folder that is held: `check` before each write."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.folder = folder
        self.holder = holder
        self._descriptor = -1
        self._beats = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def check(self) -> None:
        """A UserError when another process has taken the study over, as it may while this one was frozen."""
        found = lease_holder(self.folder)
        # A lease that is gone was removed by hand: nobody else has the study yet.
        if found is not None and found.id != self.holder.id:
            raise UserError(
                f"the study in {self.folder} was taken over by {found} while this one did not answer; "
                "nothing more is written from here: let that one go on, or stop it and run the study again"
            )

    def take(self, instead_of: bytes | None, settle: bool) -> bool:
        """Put this lease under the name; false when another was quicker. `settle`: others may be taking it too."""
        path = self.folder / LEASE
        draft = path if instead_of is None else path.with_name(f".{LEASE}.{self.holder.id}")
        try:
            self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        taken = False
        try:
            self._write()
            taken = instead_of is None or lease_bytes(self.folder) == instead_of
            if taken and draft != path:
                os.replace(draft, path)
        finally:
            if not taken or draft != path:
                draft.unlink(missing_ok=True)
        if taken and settle:  # of several that put theirs here, the last one stays
            time.sleep(self.holder.every)
            taken = self._mine()
        return taken

    def begin(self) -> None:
        """Beat until the end."""
        self._thread.start()

    def end(self) -> None:
        """No more beats, and the study is free unless another has taken it."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(self.holder.every)
        with contextlib.suppress(OSError):
            if self._mine():
                (self.folder / LEASE).unlink()
        if self._descriptor >= 0 and not self._thread.is_alive():
            os.close(self._descriptor)

    def _mine(self) -> bool:
        found = lease_holder(self.folder)
        return found is not None and found.id == self.holder.id

    def _beat(self) -> None:
        while not self._ended.wait(self.holder.every):
            with contextlib.suppress(OSError):  # what fails now may succeed at the next beat
                self._write()

    def _write(self) -> None:
        self._beats += 1
        os.pwrite(self._descriptor, lease_text(self.holder, self._beats), 0)
        os.fsync(self._descriptor)  # a network file system shows it to others no sooner


@contextlib.contextmanager
def held(
    folder: Path,
    say: Say = _to_nobody,
    machine: Machine | None = None,
    seconds: float = LEASE_SECONDS,
    every: float = BEAT_SECONDS,
) -> Iterator[Lease]:
    """Hold the study folder, made if it is missing; a UserError that names the holder where a living one has it.

    `say` hears what is waited for. The other arguments are for tests.
    """
    machine = machine or Machine.this()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context((folder / LOCK).open("ab"))
            locked = _locked(stream.fileno(), fcntl.LOCK_EX)  # until `stack` closes the file
            lease = Lease(folder, new_holder(machine, every, locked is True))
            stack.callback(lease.end)
            _take(lease, locked, seconds, say)
        except OSError as error:
            raise unwritable(folder, error) from None
        lease.begin()
        yield lease


def refuse_if_running(folder: Path, say: Say = _to_nobody, machine: Machine | None = None) -> None:
    """A UserError where a living driver holds the folder; nothing is made or kept.

    One of another machine that misses some beats is left to `held`, which waits long enough to know.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), (folder / LOCK).open("rb") as stream:
            found = _perhaps_alive(folder, _locked(stream.fileno(), fcntl.LOCK_SH), machine or Machine.this())
            if found is not None:
                _watch(folder, _MISSED * found.every, found, say)
    except OSError as error:
        raise unwritable(folder, error) from None


def holder_of(folder: Path, machine: Machine | None = None) -> Holder | None:
    """Who holds the study as far as can be seen at once: nobody, where its process is dead or was of this machine."""
    with contextlib.suppress(OSError), (folder / LOCK).open("rb") as stream:
        locked, found = _locked(stream.fileno(), fcntl.LOCK_SH), lease_holder(folder)
        if found is not None and (not locked or not found.locked or found.machine != (machine or Machine.this())):
            return found
    return None


def unwritable(folder: Path, error: OSError) -> UserError:
    """The one line for a study folder that cannot be written."""
    return UserError(
        f"study folder {folder} cannot be written ({error.strerror or error}); "
        "make it writable or set 'storage' to another folder"
    )


def _take(lease: Lease, locked: bool | None, seconds: float, say: Say) -> None:
    """Take the lease: a free one, or that of a holder that is found dead."""
    seen = lease_bytes(lease.folder)
    found = _perhaps_alive(lease.folder, locked, lease.holder.machine)
    if found is not None:
        seen = _watch(lease.folder, max(seconds, _MISSED * found.every), found, say)
    if not lease.take(seen, settle=found is not None and seen is not None):
        raise _refusal(lease.folder, lease_holder(lease.folder))


def _perhaps_alive(folder: Path, locked: bool | None, machine: Machine) -> Holder | None:
    """The holder of whom only the beat can tell; None when the lock shows it dead, a UserError when it shows it alive.

    `locked`: whether the kernel's lock is ours now, None where there are no locks.
    """
    found = lease_holder(folder)
    if found is not None and (locked is None or found.machine != machine or not found.locked):
        return found
    if locked is False:
        raise _refusal(folder, found)
    return None


def _watch(folder: Path, seconds: float, found: Holder, say: Say) -> bytes | None:
    """The lease that did not change for so long, None when it was given back; a UserError when its holder beats."""
    began, seen = time.monotonic(), lease_bytes(folder)
    say(f"waiting up to {seconds:g} s to see whether {found} still runs the study in {folder}")
    while (waited := time.monotonic() - began) < seconds:
        time.sleep(min(found.every / _LOOKS, seconds - waited))
        now = lease_bytes(folder)
        if now is None:
            return None
        if now != seen:
            raise _refusal(folder, lease_holder(folder), time.monotonic() - began)
    return seen


def _refusal(folder: Path, found: Holder | None, waited: float | None = None) -> UserError:
    answered = "" if waited is None else f", which gave a sign of life after {waited:.1f} s of waiting"
    return UserError(
        f"study folder {folder} is being run by {found or 'another process'}{answered}; "
        "wait until it ends, or stop it first"
    )


def _locked(descriptor: int, kind: int) -> bool | None:
    for pause in (0.05, 0.1, 0.0):  # who only looks, holds it for an instant
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        except OSError:
            return None
        else:
            return True
    return False
