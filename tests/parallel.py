"""How `make test` shares the suite among processes (pytest-xdist, `--dist loadgroup`).

What a process starts for a session stays in that process: a Ray, MLflow servers, a server that forks workers. So all
tests that need the same one are a group, and every other file is a group of its own. The groups that take longest
come first, because a process that is done with its group takes the next one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
RAY, COMMANDS, SERVERS, FORKED = LONGEST_FIRST = ("ray", "commands", "servers", "forked")
FIXTURES = {"ray_here": RAY, "server": SERVERS, "server_on_postgresql": SERVERS, "new_database": SERVERS}
FILES = {
    "end_to_end/test_readme.py": COMMANDS,
    "contracts/test_tracking.py": SERVERS,
    "contracts/test_tracking_away.py": SERVERS,
    "model/training/": FORKED,
    "model/data/test_demo.py": FORKED,
}


def choose_group(path: str, fixtures: list[str]) -> str:
    """The group of a test in the file at `path`, relative to this folder, that uses `fixtures`."""
    by_fixture = [FIXTURES[name] for name in fixtures if name in FIXTURES]
    by_file = [group for start, group in FILES.items() if path.startswith(start)]
    return next(iter(by_fixture + by_file), path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of several, give each test its group and sort the groups."""
    if not hasattr(config, "workerinput"):
        return
    groups = {}
    for item in items:
        path = item.path.relative_to(HERE).as_posix()
        groups[item] = choose_group(path, getattr(item, "fixturenames", []))
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    order = {group: position for position, group in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(groups[item], len(order)))
