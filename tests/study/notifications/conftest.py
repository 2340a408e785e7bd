"""Receivers that are real: a web server on this machine, and programs that write what they get into a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from web_hook import Hook


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()


@pytest.fixture
def write_program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a shell script that may be executed."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Wait until something is the case; far longer than it takes, as machines may be busy."""

    def wait(is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline, "it did not come about"
            time.sleep(0.01)

    return wait
