"""SIGTERM while `python -m model train` trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_runs import assert_same_weights, without_clock

from model.commands.train import METRICS_FILE
from model.recipe.recipe import Recipe
from model.strict import to_yaml
from model.training.loop import train

# A step is long enough for a signal to come within the first epoch.
SLOWED = """
import runpy, sys, time
from model.training import loop
step = loop.train_step
def train_step(*arguments):
    print("a step", flush=True)
    time.sleep(0.2)
    return step(*arguments)
loop.train_step = train_step
runpy.run_module("model", run_name="__main__")
"""
SECONDS = 300.0  # that a start of torch and two epochs may take on a busy machine
VALUES = {"training.epochs": 2, "data.batch_seconds": 7.0, "encoder.dropout": 0.1}


def start_training(recipe: Recipe, folder: Path, slow: bool) -> subprocess.Popen[str]:
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    code = ["-c", SLOWED] if slow else ["-m", "model"]
    return subprocess.Popen(
        [sys.executable, *code, "train", str(folder / "recipe.yaml"), "--out", str(folder / "run")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(400)
def test_sigterm_within_an_epoch_is_exit_code_143_and_the_same_command_continues_to_the_same_weights(
    make_recipe, tmp_path: Path
) -> None:
    recipe = make_recipe(VALUES)
    process = start_training(recipe, tmp_path, slow=True)
    assert process.stdout is not None
    assert "a step\n" in process.stdout, "it ended before its first step"
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, errors
    assert time.monotonic() - asked < 10
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    steps = int(checkpoint.name.removeprefix("epoch-0000-step-"))
    assert errors == f"SIGTERM stopped training after step {steps} of epoch 1; the same command continues from there\n"
    again = start_training(recipe, tmp_path, slow=False)
    assert again.communicate(timeout=SECONDS)[1] == ""
    assert again.returncode == 0
    whole: list[dict[str, float]] = []
    train(recipe, tmp_path / "whole", whole.append)
    reports = [json.loads(line) for line in (tmp_path / "run" / METRICS_FILE).read_text().splitlines()]
    assert [without_clock(metrics) for metrics in reports] == [without_clock(metrics) for metrics in whole]
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
