"""The rules of the code layout, as tests: which package and room may import which, what lies where, how long files are.

CONTRIBUTING.md explains the layout; the tables here are what is enforced.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "study", "cluster", "search_spaces")
TOP_LEVEL = {
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".ci",
    "tests",
    *PACKAGES,
}
FORBIDDEN = {
    "model": {"study", "cluster", "search_spaces", "ray", "mlflow", "optuna"},
    "cluster": {"study", "model", "search_spaces", "mlflow", "optuna"},
    "study": set(),
}
# The rooms of each package, lowest first: a room may import those listed before it, never those after.
ROOMS = {
    "model": (
        "errors",
        "strict",
        "runtime",
        "recipe",
        "network.kernels",
        "network",
        "corpora",
        "data",
        "lm",
        "decoding",
        "weights.published",
        "weights",
        "onnx",
        "evaluation",
        "training",
        "transcription",
        "api",
        "commands",
        "__main__",
    ),
    "cluster": (
        "errors",
        "credentials",
        "addresses",
        "resources",
        "embedded",
        "connect",
        "tasks",
        "interfaces",
        "worker_ports",
        "placement_groups",
        "usage",
        "process_group",
        "profiles",
        "jobs",
        "tunnel",
        "machines",
        "slurm",
        "kuberay",
        "vms",
        "images",
        "kinds",
        "preflight",
    ),
    "study": (
        "config",
        "ledger",
        "evidence",
        "verdict",
        "search",
        "early_stopping",
        "replay",
        "tracking",
        "display",
        "notifications",
        "pages",
        "report",
        "errors",
        "workers",
        "execution",
        "remote",
        "closing",
        "runner",
        "api",
        "cli",
        "__main__",
    ),
}
# The one room that may import a foreign library.
ONE_ROOM = {
    "optuna": ("study", "search"),
    "mlflow": ("study", "tracking"),
    "ray.tune": ("study", "execution"),
    "ray.train": ("study", "workers"),
}
ALSO_ALLOWED = {"study/workers/driver.py": "ray.tune"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that the file names in an import, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The room of `package.room.module`, the longest name first; None for the package itself."""
    package, _, rest = module.partition(".")
    for room in sorted(ROOMS[package], key=len, reverse=True):
        if rest == room or rest.startswith(f"{room}."):
            return room
    return None


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_in_one_direction(package: str) -> None:
    for path in sources(package):
        against = {name for name in imports(path) if name.split(".")[0] in FORBIDDEN[package]}
        assert not against, f"{path.relative_to(ROOT)} imports {against}"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_those_listed_before_them(package: str) -> None:
    order = ROOMS[package]
    for path in sources(package):
        here = room_of(module_of(path))
        if here is None:  # the package's own __init__ names its public interface
            assert path.name == "__init__.py", f"{path.relative_to(ROOT)} lies in no room"
            continue
        for name in imports(path):
            there = room_of(name) if name.split(".")[0] == package else None
            allowed = there is None or order.index(there) <= order.index(here)
            assert allowed, f"{path.relative_to(ROOT)} (room {here}) imports {name} (room {there})"


@pytest.mark.parametrize("package", ROOMS)
def test_no_two_modules_import_each_other(package: str) -> None:
    modules = {module_of(path): path for path in sources(package)}
    arrows = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            for there in sorted(arrows[name]):
                visit(there, (*trail, name))
            done.add(name)

    for name in modules:
        visit(name, ())


@pytest.mark.parametrize("library", ONE_ROOM)
def test_a_foreign_library_is_imported_in_one_room(library: str) -> None:
    package, room = ONE_ROOM[library]
    for path in sources("study"):
        uses = any(name == library or name.startswith(f"{library}.") for name in imports(path))
        name = str(path.relative_to(ROOT))
        allowed = room_of(module_of(path)) == room or ALSO_ALLOWED.get(name) == library
        assert not uses or allowed, f"{name} imports {library}, which only {package}/{room} may"


@pytest.mark.parametrize("package", ROOMS)
def test_tests_mirror_the_rooms(package: str) -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / package).rglob("test_*.py")}
    missing = {str(folder) for folder in folders if not (ROOT / folder).is_dir()}
    assert not missing, f"tests in folders that no room has: {missing}"


def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} <= TOP_LEVEL


def test_no_source_file_is_too_long_to_read() -> None:
    lengths = {path: len(path.read_text().splitlines()) for folder in (*PACKAGES, "tests") for path in sources(folder)}
    assert not {str(path): length for path, length in lengths.items() if length > 300}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_resolves_to_this_checkout(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


def test_no_test_folder_is_a_package() -> None:
    # A package under tests/ would shadow the one of its name.
    assert not list((ROOT / "tests").rglob("__init__.py"))
