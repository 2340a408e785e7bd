"""Where the token of a cluster is found, and the errors of a cluster that refuses it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cluster.credentials import enable_token_authentication, find_token_source, refused_credentials_error


def write_token(home: Path, text: str = "secret") -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(text)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide an imported Ray, so that the tests do not change the mode of this process' own Ray."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)


def test_without_a_token_the_mode_stays_unset(no_token: Path, without_ray: None) -> None:
    enable_token_authentication()
    assert find_token_source() is None
    assert "RAY_AUTH_MODE" not in os.environ


def test_an_empty_token_file_is_no_token(no_token: Path, without_ray: None) -> None:
    write_token(no_token, "\n")
    enable_token_authentication()
    assert "RAY_AUTH_MODE" not in os.environ


def test_a_token_in_the_usual_file_enables_authentication(no_token: Path, without_ray: None) -> None:
    write_token(no_token)
    enable_token_authentication()
    assert find_token_source() == "~/.ray/auth_token"
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_named_file_and_a_token_in_the_environment_come_before_the_usual_file(
    no_token: Path, without_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_token(no_token)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "nowhere"))
    assert find_token_source() is None
    (no_token / "token").write_text("secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "token"))
    assert find_token_source() == str(no_token / "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert find_token_source() == "RAY_AUTH_TOKEN"
    enable_token_authentication()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_mode_that_the_user_set_is_kept(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_token(no_token)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    enable_token_authentication()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_refused_credentials_are_reported_with_what_to_change(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "requires a token, but there is none here; copy ~/.ray/auth_token" in str(
        refused_credentials_error("head:1")
    )
    write_token(no_token)
    assert "the cluster at 'head:1' refuses the token in ~/.ray/auth_token" in str(refused_credentials_error("head:1"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "requires a token, but RAY_AUTH_MODE is 'disabled' here; unset it" in str(
        refused_credentials_error("head:1")
    )
