"""`train` that hangs: a line says where, exit code 1 as for a lost worker, and the stacks are kept in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.recipe.recipe import Recipe
from model.strict import to_yaml

ROOT = Path(__file__).parents[3]
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD", "MASTER"))}
Run = Callable[..., subprocess.CompletedProcess[str]]
NETWORK = {"factory": "hanging_network:make", "path": str(ROOT / "tests")}


@pytest.fixture
def run(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Run:
    """Run `python -m model train` on a recipe whose network hangs on rank HANGS in the second epoch."""

    def train(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        recipe: Recipe = make_recipe({"custom_model": NETWORK, "training.epochs": 2})
        (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
        environment = ALONE | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "RUN": "run"} | variables
        environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
        command = [sys.executable, "-m", "model", "train", "recipe.yaml", "--out", "run", "--stall-seconds", "5"]
        settings: dict[str, Any] = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        return subprocess.run([*command, *options], check=False, timeout=110, **settings)

    return train


def test_a_training_that_hangs_ends_with_a_line_and_its_stacks(run: Run, tmp_path: Path) -> None:
    done = run(HANGS="0")
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: training made no progress for ")
    assert "s (--stall-seconds 5) in pathlib.py:" in line
    assert "called at model/network/custom" in line
    assert "; all threads are in run/stacks-rank0.txt." in line
    assert "in read_silent_file" in (tmp_path / "run/stacks-rank0.txt").read_text()


@pytest.mark.slow
def test_of_two_workers_the_one_that_hangs_is_named_and_the_stacks_of_both_are_kept(run: Run, tmp_path: Path) -> None:
    done = run("--workers", "2", HANGS="1")
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: worker 1 of 2: training made no progress for ")
    assert "pathlib.py" in line
    first, second = ((tmp_path / f"run/stacks-rank{rank}.txt").read_text() for rank in (0, 1))
    assert "torch/autograd" in first or "torch/distributed" in first
    assert "pathlib.py" in second


@pytest.mark.chaos
def test_a_worker_that_is_stopped_is_named_as_the_one_that_the_other_waits_for(run: Run, tmp_path: Path) -> None:
    done = run("--workers", "2", HANGS="1", BY="SIGSTOP")
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: worker 1 of 2 does not answer, and worker 0 waits for it: training made no progress")
    assert "its process is stopped (SIGSTOP)" in (tmp_path / "run/stacks-rank1.txt").read_text()
