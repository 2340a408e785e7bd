"""How `make test` shares the suite among processes (pytest-xdist, `--dist loadfile`): a file stays in one process.

The files that take longest come first, because a process that is done with its file takes the next one. (`loadgroup`
would let files share a Ray or a server, but pytest-xdist 3.8 loses the groups under pytest 9.2.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
LONGEST_FIRST = ("end_to_end/", "contracts/", "model/training/", "model/commands/", "model/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of several, sort the files."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _rank(item.path.relative_to(HERE).as_posix()))


def _rank(path: str) -> int:
    return next((rank for rank, start in enumerate(LONGEST_FIRST) if path.startswith(start)), len(LONGEST_FIRST))
