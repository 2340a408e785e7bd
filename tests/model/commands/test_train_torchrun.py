"""`train` in processes that torchrun started, of which the first one prepares the recipe for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from free_ports import choose_port

from model.strict import to_yaml

ROOT = Path(__file__).parents[3]
SECONDS = 300.0  # that two starts of torch may take on a busy machine
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD", "MASTER"))}
LIMIT = 6.0  # seconds that a collective waits
TRAIN = f"""
import contextlib, os, sys, time
from datetime import timedelta
import torch.distributed as dist
from model.commands import app, train
from model.runtime import rank
from model.training import prepare as preparation

join = rank.join_group

@contextlib.contextmanager
def join_with_short_limit():
    with join() as joined:
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds={LIMIT}), dist.group.WORLD)
        yield joined

def prepare(recipe):
    print("prepares", flush=True)
    time.sleep(float(os.environ["PREPARES"]))
    return recipe

rank.join_group = join_with_short_limit
preparation.prepare = prepare
train.train_prepared = lambda recipe, out, stall_seconds: print("trains", recipe.name)
app.main()
"""
Ranks = list[subprocess.Popen[str]]


@pytest.fixture
def start(make_recipe, tmp_path: Path) -> Iterator[Callable[[float, float], Ranks]]:
    """Start two ranks, of which the first prepares for so long, and may be silent for so long."""
    started: Ranks = []
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe()))

    def begin(prepares: float, stall_seconds: float) -> Ranks:
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(choose_port())}
        environment = ALONE | group | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        options = ["train", "recipe.yaml", "--stall-seconds", str(stall_seconds)]
        for rank in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", TRAIN, *options],
                cwd=tmp_path,
                env=environment | {"PREPARES": str(prepares), "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
        return started

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.timeout(400)
def test_the_others_wait_for_a_preparation_that_takes_longer_than_a_collective_may(start) -> None:
    ranks = start(1.5 * LIMIT, 100.0)
    printed = [process.communicate(timeout=SECONDS) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], printed
    assert all("trains tiny" in lines for lines, _ in printed)


@pytest.mark.slow
def test_a_preparation_that_hangs_ends_all_with_its_line(start) -> None:
    ranks = start(600.0, 5.0)
    printed = [process.communicate(timeout=SECONDS) for process in ranks]
    assert [process.returncode for process in ranks] == [2, 2], printed
    for _, errors in printed:
        line = errors.splitlines()[-1]
        assert line.startswith("error: the preparation of tokenizer and features made no progress for "), printed


@pytest.mark.slow
def test_a_first_process_that_is_stopped_is_not_waited_for_for_ever(start) -> None:
    first, other = start(600.0, 5.0)
    assert first.stdout is not None
    assert first.stdout.readline() == "prepares\n"
    first.send_signal(signal.SIGSTOP)
    _, errors = other.communicate(timeout=SECONDS)
    assert other.returncode == 2
    line = errors.splitlines()[-1]
    assert line.startswith(
        "error: worker 1, which waits for worker 0 to prepare tokenizer and features, made no progress"
    )
