"""Which ports this project's servers listen on."""

from __future__ import annotations

import socket

import pytest
from free_ports import choose_port

from cluster.errors import ClusterError
from cluster.worker_ports import WORKER_PORTS, listen_on_worker_port, read_worker_ports

HOST = "127.0.0.1"


def name_range(monkeypatch: pytest.MonkeyPatch, count: int) -> range:
    """Ports that no other process takes, named in the environment."""
    low = choose_port()
    monkeypatch.setenv(WORKER_PORTS, f"{low}-{low + count - 1}")
    return range(low, low + count)


def test_without_a_range_any_free_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKER_PORTS, raising=False)
    with listen_on_worker_port(HOST) as first, listen_on_worker_port(HOST) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_the_port_is_of_the_range_and_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = name_range(monkeypatch, 50)
    with listen_on_worker_port(HOST) as server:
        assert server.getsockname()[1] in ports
        with socket.create_connection(server.getsockname(), 30.0):
            server.accept()[0].close()


def test_a_port_on_which_somebody_listens_is_left_alone_and_another_one_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    name_range(monkeypatch, 1)
    with listen_on_worker_port(HOST) as server:
        taken = server.getsockname()[1]
        monkeypatch.setenv(WORKER_PORTS, f"{taken}-{taken + 20}")
        for _ in range(10):  # the order is random
            with listen_on_worker_port(HOST) as other:
                assert other.getsockname()[1] != taken


def test_a_range_without_a_free_port_is_reported_in_one_line_with_what_to_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low = name_range(monkeypatch, 1).start
    expected = (
        rf"^none of the ports {low}-{low} is free on 127\.0\.0\.1 \(DECRED_WORKER_PORTS\); .* widen the range, and .*"
    )
    with listen_on_worker_port(HOST), pytest.raises(ClusterError, match=expected):
        listen_on_worker_port(HOST)


def test_a_port_can_be_taken_again_right_after_its_connections_were_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    name_range(monkeypatch, 1)
    with listen_on_worker_port(HOST) as server, socket.create_connection(server.getsockname(), 30.0) as client:
        server.accept()[0].close()  # this end closes first, and so keeps the port for a minute
        assert client.recv(1) == b""
    listen_on_worker_port(HOST).close()


@pytest.mark.parametrize("has_range", [True, False])
def test_an_address_of_another_machine_is_reported_in_one_line(
    has_range: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WORKER_PORTS, raising=False)
    if has_range:
        name_range(monkeypatch, 1)
    with pytest.raises(ClusterError, match=r"^203\.0\.113\.1 cannot be listened on \(.*address of this machine"):
        listen_on_worker_port("203.0.113.1")


@pytest.mark.parametrize("given", ["10002", "a-b", "20000-10000", "80-90", "60000-70000", "10002-19999,30000"])
def test_what_is_no_range_is_refused_in_one_line_with_an_example(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER_PORTS, given)
    with pytest.raises(ClusterError, match=rf"^DECRED_WORKER_PORTS is '{given}', but must be LOW-HIGH .* 10002-19999$"):
        read_worker_ports()


@pytest.mark.parametrize("given", ["10002-19999", " 10002 - 19999 "])
def test_a_range_includes_both_its_ends(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER_PORTS, given)
    assert read_worker_ports() == range(10002, 20000)
