"""One driver at a time on a study: a second is refused while the first lives, and takes over when it is dead.

On one machine the kernel decides at once: its lock on the file `lock` ends with the process that holds it. Between
machines, where such locks may have no effect, `lease.json` decides: its holder writes a new heartbeat into it every few
seconds, and a driver that reads the same one for LEASE_SECONDS of its own clock takes over. Clocks of two machines are
never compared.

A holder keeps its lease file open and writes heartbeats into that open file; a driver that takes over puts a new file
under the name. So a holder that was frozen and wakes up cannot take the study back by accident, and heartbeats need no
new space on a full disk.
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
from model.strict import make_folders
from study.ledger.lease_file import LEASE, Holder, Machine, format_lease, make_holder, read_holder, read_lease

LOCK = "lock"
HEARTBEAT_SECONDS, LEASE_SECONDS = 2.0, 20.0
DEAD_AFTER_SECONDS = 180.0  # for those who only look: clocks of two machines may differ by minutes
_MISSED_HEARTBEATS = 3  # after so many, a holder may be dead
_READS_PER_HEARTBEAT = 20  # of another driver's lease
_BRIEF_SECONDS = 60.0  # that a process may take to record commands; it may have to read the weights of a trial

Print = Callable[[str], object]


def _discard(line: str) -> None:
    """Print nothing."""


class StudyRunningError(UserError):
    """Another process has the study."""


class Lease:
    """The right to run the study in a folder. Call `check` before each write."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.folder = folder
        self.holder = holder
        self._descriptor = -1
        self._heartbeats = 0
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, name="lease", daemon=True)

    def check(self) -> None:
        """A UserError when another process has taken the study over, as it may while this one was frozen."""
        holder = read_holder(self.folder)
        # A lease that is missing was removed by hand: no other process has the study yet.
        if holder is not None and holder.id != self.holder.id:
            raise UserError(
                f"the study in {self.folder} was taken over by {holder} while this process did not respond; "
                "nothing more is written from here: let that process continue, or stop it and run the study again"
            )

    def acquire(self, replaced: bytes | None, confirm: bool) -> bool:
        """Put this lease under the name; false when another driver was quicker.

        `replaced` is the content of the dead driver's lease, None where there is none. `confirm`: check a heartbeat
        later that this lease is still the one under the name, because others may be acquiring it too.
        """
        path = self.folder / LEASE
        draft = path if replaced is None else path.with_name(f".{LEASE}.{self.holder.id}")
        try:
            self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        acquired = False
        try:
            self._write_heartbeat()
            acquired = replaced is None or read_lease(self.folder) == replaced
            if acquired and draft != path:
                os.replace(draft, path)
        finally:
            if not acquired or draft != path:
                draft.unlink(missing_ok=True)
        if acquired and confirm:  # of several that put theirs here, the last one stays
            time.sleep(self.holder.interval)
            acquired = self._is_ours()
        return acquired

    def start_heartbeats(self) -> None:
        """Write heartbeats until `release`."""
        self._thread.start()

    def release(self) -> None:
        """Stop the heartbeats, and remove the lease unless another driver has taken over."""
        self._released.set()
        if self._thread.ident is not None:
            self._thread.join(self.holder.interval)
        with contextlib.suppress(OSError):
            if self._is_ours():
                (self.folder / LEASE).unlink()
        if self._descriptor >= 0 and not self._thread.is_alive():
            os.close(self._descriptor)

    def _is_ours(self) -> bool:
        holder = read_holder(self.folder)
        return holder is not None and holder.id == self.holder.id

    def _send_heartbeats(self) -> None:
        while not self._released.wait(self.holder.interval):
            with contextlib.suppress(OSError):  # what fails now may succeed at the next heartbeat
                self._write_heartbeat()

    def _write_heartbeat(self) -> None:
        self._heartbeats += 1
        os.pwrite(self._descriptor, format_lease(self.holder, self._heartbeats), 0)
        os.fsync(self._descriptor)  # a network file system shows it to others no sooner


@contextlib.contextmanager
def hold_lease(
    folder: Path,
    print_line: Print = _discard,
    machine: Machine | None = None,
    seconds: float = LEASE_SECONDS,
    interval: float = HEARTBEAT_SECONDS,
    brief: bool = False,
) -> Iterator[Lease]:
    """Hold the study folder, made if it is missing; a UserError that names the holder where a living driver has it.

    `brief` is a process that only records commands, which others of this machine wait for.

    `print_line` gets a line before a wait. The other arguments are for tests; `seconds` and `interval` in seconds.
    """
    machine = machine or Machine.detect()
    with contextlib.ExitStack() as stack:
        try:
            make_folders(folder)
            stream = stack.enter_context((folder / LOCK).open("ab"))
            locked = _wait_for_lock(folder, stream.fileno(), fcntl.LOCK_EX)  # until `stack` closes the file
            lease = Lease(folder, make_holder(machine, interval, locked is True, brief))
            stack.callback(lease.release)
            _acquire(lease, locked, seconds, print_line)
        except OSError as error:
            raise unwritable_folder_error(folder, error) from None
        lease.start_heartbeats()
        yield lease


def refuse_if_running(folder: Path, print_line: Print = _discard, machine: Machine | None = None) -> None:
    """A UserError where a living driver holds the folder; nothing is made or kept.

    A driver of another machine that misses some heartbeats is left to `hold_lease`, which waits long enough to decide.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), (folder / LOCK).open("rb") as stream:
            locked = _wait_for_lock(folder, stream.fileno(), fcntl.LOCK_SH)
            holder = _find_undecided_holder(folder, locked, machine or Machine.detect())
            if holder is not None:
                _wait_for_heartbeat(folder, _MISSED_HEARTBEATS * holder.interval, holder, print_line)
    except OSError as error:
        raise unwritable_folder_error(folder, error) from None


def find_living_holder(folder: Path, machine: Machine | None = None) -> Holder | None:
    """The holder of the folder, without waiting; None where there is none, or where it is dead.

    The lock shows that of a process of this machine; of another machine's, that its last heartbeat is long ago.
    """
    with contextlib.suppress(OSError), (folder / LOCK).open("rb") as stream:
        locked, holder = _try_lock(stream.fileno(), fcntl.LOCK_SH), read_holder(folder)
        if holder is None:
            return None
        if locked is not None and holder.locked and holder.machine == (machine or Machine.detect()):
            return None if locked else holder
        is_old = time.time() - (folder / LEASE).stat().st_mtime > DEAD_AFTER_SECONDS
        return None if is_old else holder
    return None


def unwritable_folder_error(folder: Path, error: OSError) -> UserError:
    """The error, in one line, of a study folder that cannot be written."""
    return UserError(
        f"study folder {folder} cannot be written ({error.strerror or error}); "
        "make it writable or set 'storage' to another folder"
    )


def _acquire(lease: Lease, locked: bool | None, seconds: float, print_line: Print) -> None:
    """Acquire a lease that is free, or that of a holder that turns out to be dead."""
    content = read_lease(lease.folder)
    holder = _find_undecided_holder(lease.folder, locked, lease.holder.machine)
    if holder is not None:
        seconds = max(seconds, _MISSED_HEARTBEATS * holder.interval)
        content = _wait_for_heartbeat(lease.folder, seconds, holder, print_line)
    if not lease.acquire(content, confirm=holder is not None and content is not None):
        raise _already_running_error(lease.folder, read_holder(lease.folder))


def _find_undecided_holder(folder: Path, locked: bool | None, machine: Machine) -> Holder | None:
    """The holder that only heartbeats show to be alive or dead.

    None when the lock shows it dead, a UserError when the lock shows it alive. `locked`: whether the kernel's lock is
    ours now, None where there are no locks.
    """
    holder = read_holder(folder)
    if holder is not None and (locked is None or holder.machine != machine or not holder.locked):
        return holder
    if locked is False:
        raise _already_running_error(folder, holder)
    return None


def _wait_for_heartbeat(folder: Path, seconds: float, holder: Holder, print_line: Print) -> bytes | None:
    """The lease that did not change for `seconds`, None when it was released; a UserError at its next heartbeat."""
    start, before = time.monotonic(), read_lease(folder)
    print_line(f"waiting up to {seconds:g} s to see whether {holder} still runs the study in {folder}")
    while (waited := time.monotonic() - start) < seconds:
        time.sleep(min(holder.interval / _READS_PER_HEARTBEAT, seconds - waited))
        content = read_lease(folder)
        if content is None:
            return None
        if content != before:
            raise _already_running_error(folder, read_holder(folder), time.monotonic() - start)
    return before


def _already_running_error(folder: Path, holder: Holder | None, waited: float | None = None) -> StudyRunningError:
    heartbeat = "" if waited is None else f", which sent a heartbeat after {waited:.1f} s of waiting"
    return StudyRunningError(
        f"study folder {folder} is being run by {holder or 'another process'}{heartbeat}; "
        "wait until it ends, or stop it first"
    )


def _wait_for_lock(folder: Path, descriptor: int, kind: int) -> bool | None:
    """As `_try_lock`, once a process that only records commands has ended."""
    deadline = time.monotonic() + _BRIEF_SECONDS
    while (locked := _try_lock(descriptor, kind)) is False and time.monotonic() < deadline:
        holder = read_holder(folder)
        if holder is None or not holder.brief:
            break
        time.sleep(0.1)
    return locked


def _try_lock(descriptor: int, kind: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks."""
    for pause in (0.05, 0.1, 0.0):  # seconds; `refuse_if_running` of another process holds it for an instant
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        except OSError:
            return None
        else:
            return True
    return False
