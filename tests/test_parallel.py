from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import parallel
import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("start", parallel.GROUPS)
def test_a_path_that_has_a_group_exists(start: str) -> None:
    assert (HERE / start).exists()


def test_files_of_a_group_are_one_scope_and_every_other_file_is_its_own() -> None:
    split = parallel.GroupScheduling._split_scope
    ids = ["tests/contracts/test_crew.py::test_a[x::y]", "tests/end_to_end/test_promotion.py::test_b"]
    assert [split(None, name) for name in ids] == ["ray", "ray"]  # type: ignore[arg-type]
    assert split(None, "tests/end_to_end/test_readme.py::test_c") == "commands"  # type: ignore[arg-type]
    assert split(None, "tests/study/test_api.py::test_d") == "study/test_api.py"  # type: ignore[arg-type]


def make_item(path: str, *fixtures: str) -> SimpleNamespace:
    return SimpleNamespace(nodeid=path, path=HERE / path, fixturenames=list(fixtures))


def test_in_a_process_of_several_the_longest_groups_come_first_and_the_order_is_kept_within() -> None:
    paths = ["test_house.py", "contracts/test_tracking.py", "end_to_end/test_readme.py", "contracts/test_crew.py"]
    items = [make_item(path) for path in [*paths, "cluster/test_jobs.py"]]
    parallel.pytest_collection_modifyitems(SimpleNamespace(workerinput={}), items)  # type: ignore[arg-type]
    assert [item.nodeid for item in items] == [*reversed(paths[1:]), paths[0], "cluster/test_jobs.py"]


def test_a_test_that_starts_a_second_ray_in_another_process_is_refused() -> None:
    items = [make_item("cluster/test_jobs.py", "ray_here")]
    with pytest.raises(pytest.UsageError, match=r"cluster/test_jobs.py uses ray_here: put its file into group ray"):
        parallel.pytest_collection_modifyitems(SimpleNamespace(workerinput={}), items)  # type: ignore[arg-type]
    parallel.pytest_collection_modifyitems(SimpleNamespace(), items)  # type: ignore[arg-type]
