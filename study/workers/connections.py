"""The connections of a group: its driver listens, and each worker and the process that starts them connect once.

Every connection is authenticated and read in a thread of its own, so whatever else finds the port, say a scanner that
sends nothing, is closed after a while and neither ends nor delays anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

from cluster.errors import ClusterError, format_error
from cluster.worker_ports import WORKER_PORTS, listen_on_worker_port
from model.runtime.child_processes import dump_children
from model.runtime.stacks import dump_stacks
from model.runtime.stop_request import StopRequest
from study.workers.messages import Close, Interrupt, SendStacks, Stacks, Task, ToDriver, ToWorker, decode, encode
from study.workers.worker import DriverGoneError

CONTROLLER = -1  # in place of a rank: Ray Train's process that starts the workers
HELLO_SECONDS = 30.0  # to prove the key and send the hello; a busy machine takes a second
CONNECT_SECONDS = 60.0  # for a driver's machine to answer
_LONGEST_HELLO = 256  # bytes
_PAUSE_SECONDS = 0.2  # where no connection can be accepted for now


@dataclass(frozen=True)
class DriverAddress:
    """What a worker needs to reach its driver."""

    host: str
    port: int
    key: str  # hexadecimal

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class WorkerListener:
    """Accepts one connection of each rank and of the controller, and gives it to `serve` in a thread of its own.

    `serve` gets the rank, the actor's id and the connection. Raises a ClusterError where no port is free.
    """

    def __init__(
        self,
        host: str,
        count: int,
        serve: Callable[[int, str, Connection], None],
        hello_seconds: float = HELLO_SECONDS,
    ) -> None:
        self._serve, self._hello_seconds = serve, hello_seconds
        self._awaited = {CONTROLLER, *range(count)}
        self._lock = threading.Lock()
        self._closed = False
        self._key = secrets.token_bytes(16)
        self._server = listen_on_worker_port(host)
        self.address = DriverAddress(host, self._server.getsockname()[1], self._key.hex())
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more; the connections that were accepted stay."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # a close alone would not wake the thread that accepts
        self._server.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                accepted, _ = self._server.accept()
                threading.Thread(target=self._greet, args=(accepted,), daemon=True).start()
            except (OSError, RuntimeError):  # closed; or too many files or threads for now, or the other end is gone
                time.sleep(_PAUSE_SECONDS)

    def _greet(self, accepted: socket.socket) -> None:
        connection = Connection(os.dup(accepted.fileno()))
        # A read of a Connection knows no timeout, but ends when its socket is shut down.
        patience = threading.Timer(self._hello_seconds, _shut_down, (accepted,))
        patience.daemon = True
        patience.start()
        try:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            rank, actor = json.loads(connection.recv_bytes(_LONGEST_HELLO))
            is_expected = self._admit(rank)
        except Exception:  # anything at all may come from a port that every process can reach
            is_expected = False
        finally:
            patience.cancel()
            accepted.close()
        if is_expected:
            self._serve(rank, actor, connection)
        else:
            connection.close()

    def _admit(self, rank: object) -> bool:
        """Whether a rank may come, which it may once."""
        with self._lock:
            if type(rank) is not int or rank not in self._awaited:
                return False
            self._awaited.remove(rank)
            return True


def connect_to_driver(address: DriverAddress, rank: int, actor: str) -> Connection:
    """A connection to the driver; a ClusterError where that cannot be reached."""
    try:
        reached = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
    except OSError as error:
        raise ClusterError(
            f"the trial's driver at {address} cannot be reached from {socket.gethostname()} ({format_error(error)}); "
            f"open the port between the machines: {WORKER_PORTS}=LOW-HIGH names the ports to choose from"
        ) from None
    reached.settimeout(None)
    connection = Connection(reached.detach())
    key = bytes.fromhex(address.key)
    answer_challenge(connection, key)
    deliver_challenge(connection, key)
    connection.send_bytes(json.dumps([rank, actor]).encode())
    return connection


class SocketChannel:
    """A worker's end of its connection. Once it was closed by the driver, every later message is a Close again.

    A thread reads it: an Interrupt, and a request for stacks, come while the worker trains.
    """

    def __init__(self, connection: Connection) -> None:
        self.stop = StopRequest()
        self._connection = connection
        self._sending = threading.Lock()
        self._trains = threading.get_ident()  # the thread that makes the channel is the one that serves it
        self._received: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()  # None: the driver is gone
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: ToDriver) -> None:
        try:
            with self._sending:
                self._connection.send_bytes(encode(message))
        except OSError:
            raise DriverGoneError from None

    def receive(self) -> ToWorker:
        message = self._received.get()
        if message is None or isinstance(message, Close):
            self._received.put(message)
        if message is None:
            raise DriverGoneError
        return message

    def _read(self) -> None:
        """Read to the end of the connection, or to a Close."""
        message: ToWorker | None = None
        while not isinstance(message, Close):
            try:
                message = decode(self._connection.recv_bytes())
            except (OSError, EOFError):
                self._received.put(None)
                return
            if isinstance(message, Interrupt):
                self.stop.make()
                continue
            if isinstance(message, SendStacks):
                with contextlib.suppress(DriverGoneError):
                    self.send(Stacks(dump_stacks(self._trains) + dump_children(os.getpid())))
                continue
            if isinstance(message, Task):
                self.stop = StopRequest()
            self._received.put(message)


def _shut_down(accepted: socket.socket) -> None:
    with contextlib.suppress(OSError):
        accepted.shutdown(socket.SHUT_RDWR)
