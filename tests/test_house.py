"""The rules of the house, as tests."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("model", "study", "cluster", "search_spaces")
TOP_LEVEL = {
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "Makefile",
    ".gitignore",
    ".ci",
    "tests",
    *ROOMS,
}
FORBIDDEN = {
    "model": {"study", "cluster", "search_spaces", "ray", "mlflow", "optuna"},
    "cluster": {"study", "model", "search_spaces", "mlflow", "optuna"},
    "study": set(),
}
ONE_ADAPTER = {
    "optuna": {"optuna_adapter.py", "optuna_store.py", "optuna_view.py", "sampling.py"},
    "mlflow": {"mlflow_adapter.py", "mlflow_store.py"},
    "ray.tune": {"tune_adapter.py", "trial.py", "stopping.py"},
}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_arrows_point_one_way(room: str) -> None:
    for path in sources(room):
        against = {name for name in imports(path) if name.split(".")[0] in FORBIDDEN[room]}
        assert not against, f"{path.relative_to(ROOT)} imports {against}"


@pytest.mark.parametrize("library", ONE_ADAPTER)
def test_a_foreign_library_enters_by_its_adapter(library: str) -> None:
    for path in sources("study"):
        uses = any(name == library or name.startswith(f"{library}.") for name in imports(path))
        assert not uses or path.name in ONE_ADAPTER[library], f"{path.relative_to(ROOT)} imports {library}"


def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} <= TOP_LEVEL


def test_no_source_file_is_too_long_to_read() -> None:
    lengths = {path: len(path.read_text().splitlines()) for room in ROOMS for path in sources(room)}
    assert not {str(path): length for path, length in lengths.items() if length > 400}


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_resolves_to_this_checkout(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


def test_no_test_folder_is_a_package() -> None:
    # A package under tests/ would shadow the room of its name.
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_readme_links_to_files_that_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert not re.findall(r"@[A-Z]+@", text), "a placeholder was left"
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
