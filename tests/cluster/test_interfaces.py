from __future__ import annotations

import os

import pytest

from cluster.interfaces import GLOO, choose_gloo_interface, find_interface


def test_the_interface_of_an_address_is_found_and_of_no_address_none() -> None:
    import ray  # noqa: F401

    assert find_interface("127.0.0.1") == "lo"
    assert find_interface("10.254.254.254") is None


def test_gloo_uses_the_interface_of_the_machines_address_unless_the_user_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(GLOO, raising=False)
    choose_gloo_interface("10.254.254.254")
    assert GLOO not in os.environ
    choose_gloo_interface("127.0.0.1")
    assert os.environ[GLOO] == "lo"
    monkeypatch.setenv(GLOO, "eth7")
    choose_gloo_interface("127.0.0.1")
    assert os.environ[GLOO] == "eth7"
