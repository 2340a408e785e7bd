from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from fake_dashboard import VERSION, serve

from cluster import addresses
from cluster.addresses import check_head, find_dashboard
from cluster.errors import ClusterError


@pytest.fixture
def mute() -> Iterator[str]:
    """HOST:PORT where connections are accepted and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("form", ["http://{}", "{}", "http://{}/"])
def test_a_dashboard_is_found_with_and_without_its_scheme(form: str) -> None:
    with serve({"/api/version": VERSION}) as place:
        assert find_dashboard(form.format(place)) == f"http://{place}"


@pytest.mark.parametrize("status", [401, 403])
def test_a_dashboard_that_asks_for_a_token_is_a_dashboard(status: int) -> None:
    with serve({"/api/version": (status, "Unauthorized")}) as place:
        assert find_dashboard(place) == f"http://{place}"


@pytest.mark.parametrize("address", ["auto", "head", "ray://head:10001", "head:port", "http://", "ftp://head:21", ""])
def test_what_is_no_dashboards_address_is_refused_with_the_form_that_is_meant(address: str) -> None:
    with pytest.raises(ClusterError, match=r"\(neither http://HOST:PORT nor HOST:PORT\); give the dashboard's address"):
        find_dashboard(address)


@pytest.mark.parametrize("form", ["http://{}", "{}"])
def test_a_port_where_nothing_listens_is_refused(form: str, closed_port: str) -> None:
    with pytest.raises(ClusterError, match=r"does not answer as a Ray dashboard \(.*Connection refused\)"):
        find_dashboard(form.format(closed_port))


def test_a_server_that_never_answers_is_given_up(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "CHECK_SECONDS", 0.3)
    with pytest.raises(ClusterError, match=r"does not answer as a Ray dashboard \(timed out\)"):
        find_dashboard(mute)


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
    with serve({"/api/version": answer}) as place, pytest.raises(ClusterError, match=expected):
        find_dashboard(place)


def test_the_address_auto_is_left_to_ray() -> None:
    check_head("auto")


@pytest.mark.parametrize("address", ["head", "local", "head:port", "tcp://head:6379"])
def test_what_is_no_heads_address_is_refused_with_the_form_that_is_meant(address: str) -> None:
    with pytest.raises(ClusterError, match=r"does not answer as a Ray cluster \(not HOST:PORT\); give the"):
        check_head(address)


def test_a_dashboards_address_is_not_taken_for_the_heads() -> None:
    with pytest.raises(ClusterError, match=r"address 'http://head:8265' is a dashboard's; give the head's, HOST:PORT"):
        check_head("http://head:8265")


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_head_that_is_not_there_is_refused(form: str, closed_port: str) -> None:
    with pytest.raises(ClusterError, match=r"does not answer as a Ray cluster \(.*Connection refused\)"):
        check_head(form.format(closed_port))


def test_a_dashboards_port_is_no_head(no_token: object) -> None:
    expected = r"\(something listens there, but it is no Ray head\)"
    with serve({"/api/version": VERSION}) as place, pytest.raises(ClusterError, match=expected):
        check_head(place)
