"""Addresses of heads and dashboards: accepted, or refused in one line within seconds."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fake_dashboard import VERSION, serve

from cluster import addresses
from cluster.addresses import check_head, find_dashboard
from cluster.errors import ClusterError


@pytest.fixture
def silent_server() -> Iterator[str]:
    """HOST:PORT of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("form", ["http://{}", "{}", "http://{}/"])
def test_a_dashboard_is_found_with_and_without_its_scheme(form: str) -> None:
    with serve({"/api/version": VERSION}) as server:
        assert find_dashboard(form.format(server)) == f"http://{server}"


@pytest.mark.parametrize("status", [401, 403])
def test_a_dashboard_that_asks_for_a_token_is_a_dashboard(status: int) -> None:
    with serve({"/api/version": (status, "Unauthorized")}) as server:
        assert find_dashboard(server) == f"http://{server}"


@pytest.mark.parametrize("address", ["auto", "head", "ray://head:10001", "head:port", "http://", "ftp://head:21", ""])
def test_an_address_that_is_no_dashboards_is_refused_with_the_expected_form(address: str) -> None:
    with pytest.raises(ClusterError, match=r"\(neither http://HOST:PORT nor HOST:PORT\); give the dashboard's address"):
        find_dashboard(address)


@pytest.mark.parametrize("form", ["http://{}", "{}"])
def test_a_port_that_refuses_connections_is_no_dashboard(form: str, closed_port: str) -> None:
    with pytest.raises(ClusterError, match=r"does not answer as a Ray dashboard \(.*Connection refused\)"):
        find_dashboard(form.format(closed_port))


def test_a_server_that_never_answers_is_refused_after_a_timeout(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "CHECK_SECONDS", 0.3)
    with pytest.raises(ClusterError, match=r"does not answer as a Ray dashboard \(timed out\)"):
        find_dashboard(silent_server)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, "<html>"), "another web server answers"),
        ((200, "[]"), "another web server answers"),
        ((200, '{"version": 1}'), "another web server answers"),
        ((404, ""), "HTTP status 404"),
    ],
)
def test_another_web_server_is_no_dashboard(answer: tuple[int, str], reason: str) -> None:
    expected = rf"does not answer as a Ray dashboard \({reason}\)"
    with serve({"/api/version": answer}) as server, pytest.raises(ClusterError, match=expected):
        find_dashboard(server)


def test_the_address_auto_is_not_checked() -> None:
    check_head("auto")


@pytest.mark.parametrize("address", ["head", "local", "head:port", "tcp://head:6379"])
def test_an_address_that_is_no_heads_is_refused_with_the_expected_form(address: str) -> None:
    with pytest.raises(ClusterError, match=r"does not answer as a Ray cluster \(not HOST:PORT\); give the"):
        check_head(address)


def test_a_dashboards_address_is_refused_as_a_heads() -> None:
    with pytest.raises(ClusterError, match=r"address 'http://head:8265' is a dashboard's; give the head's, HOST:PORT"):
        check_head("http://head:8265")


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_port_that_refuses_connections_is_no_head(form: str, closed_port: str) -> None:
    with pytest.raises(ClusterError, match=r"does not answer as a Ray cluster \(.*Connection refused\)"):
        check_head(form.format(closed_port))


def test_a_dashboards_port_is_no_head(no_token: object) -> None:
    expected = r"\(another server answers there, not a Ray head\)"
    with serve({"/api/version": VERSION}) as server, pytest.raises(ClusterError, match=expected):
        check_head(server)
