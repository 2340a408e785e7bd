"""In continuous integration a skipped test fails, unless its reason is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import is_allowed

TESTS = Path(__file__).parent
PROGRAM = """
import pytest

@pytest.fixture
def server():
    pytest.skip("no server here")

def test_in_its_body():
    pytest.skip("a reason of its own")

def test_in_a_fixture(server):
    pass

@pytest.mark.skipif(True, reason="root writes everywhere")
def test_by_a_mark():
    pass

@pytest.mark.xfail(reason="known")
def test_that_is_expected_to_fail():
    assert False
"""


def run_program(folder: Path, **env: str) -> tuple[int, str]:
    """Exit code and output of a run of the program's four tests, and a module that skips itself, with the hook."""
    (folder / "test_program.py").write_text(PROGRAM)
    (folder / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_library')\n")
    settings = {name: value for name, value in os.environ.items() if name != "CI"} | env
    options = ["-q", "-p", "skips", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(folder), str(folder)],
        env=settings | {"PYTHONPATH": str(TESTS)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def test_in_continuous_integration_a_skip_fails_unless_its_reason_is_on_the_list(tmp_path: Path) -> None:
    code, output = run_program(tmp_path, CI="true")
    assert code != 0
    assert "1 failed, 1 skipped, 1 xfailed, 2 errors" in output
    for reason in ("a reason of its own", "no server here", "could not import 'no_such_library'"):
        assert f"skipped in CI, and tests/skips.py does not allow this reason: Skipped: {reason}" in output


def test_outside_continuous_integration_a_skip_is_allowed(tmp_path: Path) -> None:
    code, output = run_program(tmp_path)
    assert code == 0
    assert "4 skipped, 1 xfailed" in output


def test_skips_for_missing_debian_packages_are_allowed_only_where_they_could_not_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reason = "Skipped: NOT TESTED: no PostgreSQL here; install Debian's package `postgresql`"
    monkeypatch.delenv("CI_WITHOUT_PACKAGES", raising=False)
    assert not is_allowed(reason)
    monkeypatch.setenv("CI_WITHOUT_PACKAGES", "1")
    assert is_allowed(reason)
