"""`train --workers`: several processes of this machine train what one does, and end together."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from free_ports import choose_port
from training_runs import read_chosen_weights, read_weights, without_clock
from waiting import wait_for

from model.commands.train import train as train_command
from model.errors import UserError
from model.recipe.recipe import Recipe
from model.runtime.worker_group import choose_count
from model.strict import to_yaml
from model.training.loop import train

ROOT = Path(__file__).parents[3]
SECONDS = 300.0  # that several starts of torch may take on a busy machine
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD", "MASTER"))}
ENVIRONMENT = ALONE | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `python -m model train` on a recipe, in a session of its own; what is left of it is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(recipe: Recipe, *options: str, **variables: str) -> subprocess.Popen[str]:
        (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
        # As from a shell: what is started in the background ignores Ctrl-C, and so would what it starts.
        main = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        main += "runpy.run_module('model', run_name='__main__')"
        command = [sys.executable, "-c", main, "train", "recipe.yaml", *options]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = ENVIRONMENT | variables
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def list_ranks(process: subprocess.Popen[str]) -> dict[int, int]:
    """The process of each rank: children of `train` whose environment names a rank."""
    ranks: dict[int, int] = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks |= {int(value[5:]): int(child) for value in variables if value.startswith(b"RANK=")}
    return ranks


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def read_reports(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.timeout(400)
def test_two_workers_train_what_one_does(make_recipe, start, tmp_path: Path) -> None:
    recipe, one = make_recipe({"training.epochs": 2, "decoder.dropout": 0.0}), list[dict[str, float]]()
    run = start(recipe, "--out", "2", "--workers", "2")
    train(recipe, tmp_path / "1", one.append)
    printed, errors = run.communicate(timeout=SECONDS)
    assert (run.returncode, errors) == (0, "")
    assert [line.split("  ")[0] for line in printed.splitlines() if line.startswith("epoch")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
    two = read_reports(tmp_path / "2")
    assert [report["epoch"] for report in two] == [report["epoch"] for report in one] == [1, 2, one[2]["epoch"]]
    for ours, theirs in zip(one, two, strict=True):
        losses = [name for name in without_clock(ours) if name.startswith("train/loss")]
        assert [theirs[name] for name in losses] == pytest.approx([ours[name] for name in losses], rel=1e-4)
    weights, others = (read_weights(tmp_path / str(count)) for count in (1, 2))
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_lost_worker_ends_the_other_and_a_second_start_continues(make_recipe, start, tmp_path: Path) -> None:
    recipe = make_recipe({"training.epochs": 40})
    run = start(recipe, "--out", "run", "--workers", "2")
    wait_for(lambda: (tmp_path / "run/metrics.jsonl").is_file(), SECONDS)
    ranks = list_ranks(run)
    assert ranks.keys() == {0, 1}
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    lost = "error: worker 1 of 2 was killed (SIGKILL), perhaps for want of memory; start the same command again, which "
    assert errors.splitlines()[-1] == f"{lost}continues from the last checkpoint"
    assert not [pid for pid in ranks.values() if is_alive(pid)]
    done = len(read_reports(tmp_path / "run"))

    again = start(recipe, "--out", "run", "--workers", "2")
    wait_for(lambda: len(read_reports(tmp_path / "run")) > done + 1)
    again.send_signal(signal.SIGTERM)
    _, errors = again.communicate(timeout=SECONDS)
    assert again.returncode == 143, errors
    assert "the same command continues from there" in errors
    epochs = [report["epoch"] for report in read_reports(tmp_path / "run")]
    assert epochs[0] == 1
    assert {epoch - before for before, epoch in itertools.pairwise(epochs)} <= {0, 1}, "none is left out"


@pytest.mark.slow
def test_ctrl_c_ends_all_in_silence(make_recipe, start, tmp_path: Path) -> None:
    run = start(make_recipe({"training.epochs": 400}), "--out", "run", "--workers", "2")
    wait_for(lambda: (tmp_path / "run/metrics.jsonl").is_file(), SECONDS)
    ranks = list_ranks(run)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=SECONDS)
    assert (run.returncode, errors) == (130, "")
    assert not [pid for pid in ranks.values() if is_alive(pid)]


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(make_recipe, start, tmp_path: Path) -> None:
    run = start(make_recipe({"training.epochs": 400}), "--out", "run", "--workers", "2")
    ranks = wait_for(lambda: len(found := list_ranks(run)) == 2 and found)
    run.kill()
    wait_for(lambda: not [pid for pid in ranks.values() if is_alive(pid)])


@pytest.mark.slow
def test_processes_that_torchrun_started_form_a_group_for_any_network(make_recipe, start, tmp_path: Path) -> None:
    port = str(choose_port())
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    network = {"factory": "toy_model:make", "path": str(ROOT / "tests"), "settings": {"width": 8}}
    recipe = make_recipe({"training.epochs": 1, "custom_model": network})
    runs = [start(recipe, "--out", "run", RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)]
    printed = [run.communicate(timeout=SECONDS) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], printed
    assert "epoch 1/1" in printed[0][0]
    assert printed[1][0] == ""
    assert len(read_reports(tmp_path / "run")) == 2
    assert read_chosen_weights(tmp_path / "run")


def test_workers_beside_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"^--workers is 2, but RANK and WORLD_SIZE are set, so that torchrun has chosen"
    ):
        train_command(Path("recipe.yaml"), workers=2)


def test_each_worker_has_a_gpu_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (choose_count(None), choose_count(1), choose_count(2)) == (2, 1, 2)
    with pytest.raises(
        UserError, match="--workers is 3, but this process sees 2 GPUs and each worker needs one; lower it"
    ):
        choose_count(3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert (choose_count(None), choose_count(3)) == (1, 3)
