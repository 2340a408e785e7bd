"""What ends a test that hangs: its own timeout, or `faulthandler_timeout` of pyproject.toml where no signal reaches it.

The latter ends the whole run. So it does not hold for tests that may take longer than it by their own timeout, such as
random faults, whose seeds that fail are shrunk, and benchmarks.
"""

from __future__ import annotations

import faulthandler

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Called once pytest has started the time of this test."""
    own = item.get_closest_marker("timeout")
    if own is not None and own.args[0] > float(item.config.getini("faulthandler_timeout")):
        faulthandler.cancel_dump_traceback_later()
