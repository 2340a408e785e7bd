"""How `pytest -n 2`, which `make test` runs, shares the suite between processes.

What a process starts for a session stays in that process: a Ray, MLflow servers, a server that forks workers. So the
files that need the same one are a group, and every other file is a group of its own. The groups that take longest
come first, because a process that is done with its group takes the next one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
RAY, COMMANDS, SERVERS, FORKED = LONGEST_FIRST = ("ray", "commands", "servers", "forked")
GROUPS = {  # the start of a path -> its group; the first one that fits counts
    "end_to_end/test_readme.py": COMMANDS,
    "end_to_end/": RAY,
    "contracts/test_crew.py": RAY,
    "contracts/": SERVERS,
    "chaos/": RAY,
    "cluster/images/": SERVERS,
    "study/tracking/test_passwords.py": SERVERS,
    "study/execution/test_start_watch.py": RAY,
    "study/execution/test_tune_memory.py": RAY,
    "study/execution/test_tune_trials.py": RAY,
    "study/workers/test_draining.py": RAY,
    "cluster/preflight/": RAY,
    "cluster/test_embedded.py": RAY,
    "cluster/test_placement_groups.py": RAY,
    "cluster/test_usage.py": RAY,
    "cluster/test_tasks.py": RAY,
    "model/training/": FORKED,
    "model/weights/": FORKED,
    "model/corpora/test_demo.py": FORKED,
}
FIXTURES = {"ray_here": RAY, "new_database": SERVERS}  # the group of every test that uses one


def choose_group(path: str) -> str:
    """The group of a file, by its path relative to this folder."""
    return next((group for start, group in GROUPS.items() if path.startswith(start)), path)


def _group_of(item: pytest.Item) -> str:
    return choose_group(item.path.relative_to(HERE).as_posix())


class GroupScheduling(LoadScopeScheduling):
    """One process runs all tests of a group. (`--dist loadgroup` has no effect with pytest 9.2 and xdist 3.8.)"""

    def _split_scope(self, nodeid: str) -> str:
        return choose_group(nodeid.split("::")[0].removeprefix(f"{HERE.name}/"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    """Ours, unless another mode than the default is asked for."""
    if config.getvalue("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of several, sort the groups. A test that uses a group's fixture from outside of it is an error."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        for fixture, group in FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()) and _group_of(item) != group:
                raise pytest.UsageError(f"{item.nodeid} uses {fixture}: put its file into group {group} in {__file__}")
    order = {group: position for position, group in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(_group_of(item), len(order)))
