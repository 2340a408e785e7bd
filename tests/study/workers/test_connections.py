"""Whatever connects to a driver's port: workers are served, and nothing else ends or delays anything."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

import pytest

from cluster.errors import ClusterError
from study.workers.connections import CONTROLLER, DriverAddress, SocketChannel, WorkerListener, connect_to_driver
from study.workers.messages import Answer, Close, Done, Interrupt, Task, encode
from study.workers.worker import DriverGoneError

SECONDS = 30.0  # that a busy machine may take
HOST = "127.0.0.1"


class Driver:
    """Two workers' listener that keeps what it was given. A hello has to come within `hello_seconds`."""

    def __init__(self, hello_seconds: float) -> None:
        self.served: queue.Queue[tuple[int, str, Connection]] = queue.Queue()
        self.listener = WorkerListener(HOST, 2, lambda *given: self.served.put(given), hello_seconds)
        self.address = self.listener.address


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver(hello_seconds=SECONDS)
    yield driver
    driver.listener.close()


def connect(address: DriverAddress) -> socket.socket:
    return socket.create_connection((address.host, address.port), SECONDS)


def send_nothing(address: DriverAddress) -> socket.socket:
    return connect(address)


def send_garbage(address: DriverAddress) -> socket.socket:
    stray = connect(address)
    stray.sendall(b"GET / HTTP/1.1\r\nHost: driver\r\n\r\n")
    return stray


def announce_a_gigabyte(address: DriverAddress) -> socket.socket:
    stray = connect(address)
    stray.sendall(struct.pack("!i", 2**30))
    return stray


def close_at_once(address: DriverAddress) -> socket.socket:
    stray = connect(address)
    stray.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    stray.close()
    return stray


def authenticate(address: DriverAddress, key: bytes) -> Connection:
    stray = connect(address)
    stray.settimeout(None)
    connection = Connection(stray.detach())
    answer_challenge(connection, key)
    deliver_challenge(connection, key)
    return connection


def give_a_wrong_key(address: DriverAddress) -> None:
    with pytest.raises(Exception, match="rejected"):
        authenticate(address, b"another key")


def say_no_hello(address: DriverAddress) -> Connection:
    return authenticate(address, bytes.fromhex(address.key))


def send_hello(hello: bytes) -> Callable[[DriverAddress], Connection]:
    def send(address: DriverAddress) -> Connection:
        connection = say_no_hello(address)
        connection.send_bytes(hello)
        return connection

    return send


STRAYS = {
    "a scanner that sends nothing": send_nothing,
    "another protocol": send_garbage,
    "the announcement of a gigabyte": announce_a_gigabyte,
    "a connection that is reset": close_at_once,
    "a wrong key": give_a_wrong_key,
    "a right key without a hello": say_no_hello,
    "a hello that is not JSON": send_hello(b"{"),
    "a hello of one value": send_hello(b"0"),
    "a rank beyond the last": send_hello(json.dumps([2, "actor"]).encode()),
    "a rank below the first": send_hello(json.dumps([-2, "actor"]).encode()),
    "a rank that is no whole number": send_hello(json.dumps([True, "actor"]).encode()),
    "a long hello": send_hello(b" " * 10_000),
}


@pytest.mark.parametrize("stray", STRAYS)
def test_workers_are_served_while_a_stray_is_connected(stray: str, driver: Driver) -> None:
    left = STRAYS[stray](driver.address)  # kept, so that it stays connected
    connections = [connect_to_driver(driver.address, rank, f"actor-{rank}") for rank in (1, 0, CONTROLLER)]
    served = sorted((driver.served.get(timeout=SECONDS) for _ in connections), key=lambda given: given[0])
    assert [(rank, actor) for rank, actor, _ in served] == [(-1, "actor--1"), (0, "actor-0"), (1, "actor-1")]
    for (rank, _, connection), worker in zip(served, reversed(connections), strict=True):
        connection.send_bytes(f"to {rank}".encode())
        assert worker.recv_bytes() == f"to {rank}".encode()
    assert driver.served.empty(), "the stray was served too"
    del left


@pytest.mark.parametrize("stray", [send_nothing, say_no_hello], ids=["sends nothing", "says no hello"])
def test_a_stray_that_sends_no_hello_is_closed_after_a_while(
    stray: Callable[[DriverAddress], socket.socket | Connection],
) -> None:
    driver = Driver(hello_seconds=0.2)
    try:
        # On a busy machine it may be closed while it still proves the key.
        with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
            connected = stray(driver.address)
            read_to_end(connected.fileno())
    finally:
        driver.listener.close()


def read_to_end(descriptor: int) -> None:
    """Wait until the other end closes the connection; this one stays open."""
    end = socket.socket(fileno=descriptor)
    try:
        end.settimeout(SECONDS)
        while end.recv(1024):
            pass
    finally:
        end.detach()


def test_of_two_connections_of_a_rank_the_first_one_stays_and_the_other_is_closed(driver: Driver) -> None:
    first = connect_to_driver(driver.address, 0, "first")
    _, _, served = driver.served.get(timeout=SECONDS)
    second = connect_to_driver(driver.address, 0, "second")
    with pytest.raises((EOFError, ConnectionError)):
        second.recv_bytes()
    served.send_bytes(b"to the first")
    assert first.recv_bytes() == b"to the first"
    assert driver.served.empty()


def test_a_hundred_strays_at_the_same_time_delay_no_worker(driver: Driver) -> None:
    strays = [connect(driver.address) for _ in range(100)]
    connect_to_driver(driver.address, 0, "actor")
    assert driver.served.get(timeout=SECONDS)[:2] == (0, "actor")
    for stray in strays:
        stray.close()


def test_a_closed_listener_accepts_nothing_and_its_thread_ends(driver: Driver) -> None:
    before = {thread for thread in threading.enumerate() if "_accept" in thread.name}
    assert before
    driver.listener.close()
    with pytest.raises(ClusterError, match="cannot be reached"):
        connect_to_driver(driver.address, 0, "actor")
    for thread in before:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_a_driver_that_cannot_be_reached_is_named_in_one_line_with_what_to_open() -> None:
    with socket.socket() as bound:
        bound.bind((HOST, 0))  # and does not listen
        port = bound.getsockname()[1]
        expected = rf"^the trial's driver at 127\.0\.0\.1:{port} cannot be reached from .* \(.*refused\); .*LOW-HIGH"
        with pytest.raises(ClusterError, match=expected):
            connect_to_driver(DriverAddress(HOST, port, "00"), 0, "actor")


def test_a_worker_that_was_closed_at_a_report_takes_no_more_tasks() -> None:
    own, other = Pipe()
    channel = SocketChannel(own)
    for message in (Answer(proceed=True), Close()):
        other.send_bytes(encode(message))
    assert channel.receive() == Answer(proceed=True)
    assert [channel.receive() for _ in range(2)] == [Close(), Close()], "it waited for another message"
    other.close()
    with pytest.raises(DriverGoneError):
        channel.send(Done())


def test_an_interrupt_reaches_a_worker_that_trains_and_not_the_task_after_it() -> None:
    own, other = Pipe()
    channel = SocketChannel(own)
    task = Task("{}", "abc", "/folder")
    other.send_bytes(encode(task))
    assert channel.receive() == task
    first = channel.stop
    for message in (Interrupt(), task, Answer(proceed=True)):
        other.send_bytes(encode(message))
    assert channel.receive() == task
    assert first.is_made, "nothing was received for it"
    assert channel.receive() == Answer(proceed=True)
    assert not channel.stop.is_made
    other.close()
    for _ in range(2):
        with pytest.raises(DriverGoneError):
            channel.receive()
