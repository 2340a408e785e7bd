"""The private names of Ray and MLflow that the source uses are in the table, and the installed versions have them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from model.errors import UserError
from study.execution import private_names
from study.execution.private_names import FITTING, PRIVATE_NAMES, can_import, check_private_names

ROOT = Path(__file__).parents[3]
LIBRARIES = tuple(FITTING)
# Modules without a leading underscore in their path that are no public interface either.
INTERNAL = ("ray.core.generated", "ray.train.v2.api", "mlflow.store.db")


def is_private(name: str) -> bool:
    return name.split(".")[0] in LIBRARIES and (
        any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
        or name.startswith(tuple(f"{module}." for module in INTERNAL))
    )


def find_names(path: Path) -> Iterator[str]:
    """The dotted names that a file imports or writes out, and the underscored methods that it calls by super()."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if text.startswith("super()._") and not text.startswith("super().__"):
                yield text.replace("super()", "ray.super")
            elif text.replace(".", "").isidentifier():
                yield text


def find_private_names() -> set[str]:
    files = [path for package in ("study", "cluster") for path in (ROOT / package).rglob("*.py")]
    return {name for path in files for name in find_names(path) if is_private(name)}


def matches(use: str, name: str) -> bool:
    """Whether a name in the source is the table's name, a parent of it, or an attribute of it."""
    if use.startswith("ray.super."):
        return name.endswith(use.removeprefix("ray.super"))
    return name == use or name.startswith(f"{use}.") or use.startswith(f"{name}.")


def test_the_installed_versions_have_every_name() -> None:
    check_private_names()


def test_every_private_name_in_the_source_is_in_the_table() -> None:
    names = find_private_names()
    assert {"ray._raylet.PlacementGroupID", "ray.super._create_default_callbacks"} <= names
    assert not {use for use in names if not any(matches(use, name) for name in PRIVATE_NAMES)}


def test_every_name_in_the_table_is_used_in_the_source() -> None:
    source = "\n".join(path.read_text() for package in ("study", "cluster") for path in (ROOT / package).rglob("*.py"))
    source = source.replace((ROOT / "study" / "execution" / "private_names.py").read_text(), "")
    assert not [name for name in PRIVATE_NAMES if name.rpartition(".")[2] not in source]


@pytest.mark.parametrize(
    "name",
    ["ray._raylet.Nowhere", "ray.nowhere.Thing", "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer._nothing"],
)
def test_a_missing_name_is_reported_in_one_line_with_the_version_that_fits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_names, "version", lambda library: "9.9.9")
    expected = rf"^ray 9\.9\.9 has no {name}, which a study needs; install .*: pip install 'ray>=2\.60,<2\.61'$"
    with pytest.raises(UserError, match=expected):
        check_private_names((name,))


def test_a_name_of_a_library_that_is_not_installed_cannot_be_imported() -> None:
    assert not can_import("no_such_library._private")


def test_the_versions_that_fit_are_those_that_the_project_requires() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    required = {requirement.name: requirement.specifier for requirement in map(Requirement, listed)}
    assert {library: required[library] for library in FITTING} == {
        library: SpecifierSet(bounds) for library, bounds in FITTING.items()
    }


def test_what_is_done_before_a_study_starts_imports_no_torch() -> None:
    code = (
        "import sys, study.runner; from study.execution.private_names import check_private_names; "
        "check_private_names(); print([name for name in ('torch', 'lhotse') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"
