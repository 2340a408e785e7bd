"""`train --workers`: a worker that runs out of memory in a step ends the try, and the next one begins by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from model.commands import train as command
from model.errors import OutOfMemoryError, SplitFurtherError
from model.runtime import worker_group
from model.strict import to_yaml

ROOT = Path(__file__).parents[3]
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD", "MASTER"))}
ENVIRONMENT = ALONE | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Exception | int]:
    """What the groups that are started come to, one after the other."""
    outcomes: list[Exception | int] = []

    def run_group(module: str, arguments: list[str], count: int, folder: Path) -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(worker_group, "run_group", run_group)
    return outcomes


def test_it_is_started_again_as_long_as_it_splits_further(
    make_recipe, tries: list[Exception | int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tries += [SplitFurtherError("out of memory at step 1"), SplitFurtherError("out of memory at step 2"), 0]
    command._train_in_group(make_recipe(), tmp_path, 2)
    assert tries == []
    assert capsys.readouterr().err == (
        "warning: out of memory at step 1; it is started again now\n"
        "warning: out of memory at step 2; it is started again now\n"
    )


def test_what_cannot_be_split_ends_it(make_recipe, tries: list[Exception | int], tmp_path: Path) -> None:
    tries += [SplitFurtherError("out of memory"), OutOfMemoryError("not even one utterance fits"), 0]
    with pytest.raises(OutOfMemoryError, match=r"^not even one utterance fits$"):
        command._train_in_group(make_recipe(), tmp_path, 2)
    assert tries == [0]


def test_sigterm_during_a_later_try_ends_all(make_recipe, tries: list[Exception | int], tmp_path: Path) -> None:
    tries += [SplitFurtherError("out of memory"), 143]
    with pytest.raises(typer.Exit) as ended:
        command._train_in_group(make_recipe(), tmp_path, 2)
    assert ended.value.exit_code == 143


@pytest.mark.slow
def test_two_workers_of_which_one_is_short_of_memory_train_to_the_end(make_recipe, tmp_path: Path) -> None:
    network = {"factory": "short_of_memory:make", "path": str(ROOT / "tests")}
    values = {"training.epochs": 1, "data.batch_seconds": 20.0, "data.buckets": 1, "custom_model": network}
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe(values)))
    arguments = ["train", "recipe.yaml", "--out", "run", "--workers", "2"]
    run = subprocess.run(
        [sys.executable, "-m", "model", *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    warnings = [line for line in run.stderr.splitlines() if "started again now" in line]
    assert warnings[0].startswith(
        "warning: out of memory at epoch 1, step 1 on worker 1 of 2 (CUDA out of memory); the training that is started "
        "again goes on from its last checkpoint, with batches of such lengths in 2 parts"
    )
    (needed,) = json.loads((tmp_path / "run" / "needed-parts-1.json").read_text()).values()
    assert needed == [2 ** len(warnings)]
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["train/accumulate"] == needed[0]
