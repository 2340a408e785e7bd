"""The power is cut while a study runs, again and again: what it had recorded is there, and the next run continues."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.epoch_order import assert_trained_once
from chaos.fault_run import REAL_WORK
from chaos.power_cut import PowerCutDisk, mount_power_cut_disk
from chaos.records import assert_records_agree
from chaos.study_process import CommandProcess, wait_until

from study.ledger.event_log import EventLog
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

ACKNOWLEDGED = Path("acknowledged.jsonl")  # on the machine's own disk, which keeps its power
ENDED = {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.fixture
def power_cut_disk(tmp_path: Path) -> Iterator[PowerCutDisk]:
    """An ext4 of 256 MB that can lose its power."""
    with mount_power_cut_disk(tmp_path / "disk", "256M") as disk:
        yield disk


@contextlib.contextmanager
def running_study(seconds: float, *work: str) -> Iterator[CommandProcess]:
    command = [sys.executable, "-u", "-m", "chaos.acknowledging", "study.yaml", str(ACKNOWLEDGED), *work]
    run = CommandProcess(command, {"STUB_SECONDS": str(seconds)})
    try:
        yield run
    finally:
        run.close()


def read_acknowledged() -> list[bytes]:
    lines = ACKNOWLEDGED.read_bytes().splitlines(keepends=True) if ACKNOWLEDGED.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


def wait_for_random_moment(run: CommandProcess, chance: random.Random) -> None:
    """Of four cuts one comes while the study starts, and three within an epoch of some acknowledged event."""
    if chance.random() < 0.25:
        time.sleep(chance.uniform(0, 10))
        return
    events = len(read_acknowledged()) + chance.randint(1, 9)
    wait_until(lambda: len(read_acknowledged()) >= events or run.process.poll() is not None, run, "no event came")
    time.sleep(chance.uniform(0, 0.3))


def cut_power(disk: PowerCutDisk, run: CommandProcess) -> None:
    """The disk first, then every process at once, then the disk is back."""
    run.list_processes()  # so that those which lose their parent are known
    disk.cut()
    run.close()
    disk.restore()


def assert_nothing_lost(folder: Path) -> None:
    """Every acknowledged event is in its place, and the ledger can be read."""
    acknowledged = read_acknowledged()
    recorded = [line for lines in EventLog(folder).read_lines().values() for line in lines]
    places = {line: place for place, line in enumerate(recorded)}
    lost = [line for line in acknowledged if line not in places]
    assert not lost, f"{len(lost)} acknowledged events are lost, the first is {lost[0]!r}"
    assert [places[line] for line in acknowledged] == sorted(places[line] for line in acknowledged)
    if acknowledged:
        Ledger.open(folder)


def cut_again_and_again(disk: PowerCutDisk, cuts: int, chance: random.Random, *work: str) -> Ledger:
    """Run the study, cut the power, run it again; then let it come to its end. The ledger, checked."""
    folder = disk.folder / "probe"
    for _ in range(cuts):
        with running_study(0.1, *work) as run:
            wait_for_random_moment(run, chance)
            assert run.process.poll() is None, f"it ended before it was cut:\n{run.output}"
            cut_power(disk, run)
        assert_nothing_lost(folder)
        assert_trained_once(EventLog(folder).read())
    with running_study(0.0, *work) as run:
        assert run.wait_for_end(600) == 0, run.output
    assert_nothing_lost(folder)
    ledger = Ledger.open(folder)
    assert list(ledger.trials) == list(range(ledger.study.trials + 1))
    assert {record.state for record in ledger.trials.values()} <= ENDED
    assert_trained_once(ledger.log.read())
    assert_records_agree(folder)
    return ledger


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("rule", "cuts"), [("asha", 20), ("asha-promote", 20)])
def test_no_power_cut_loses_an_event_that_was_recorded_or_ends_a_trial_twice(
    rule: str, cuts: int, stub: Work, power_cut_disk: PowerCutDisk, study_in: Callable[..., Path]
) -> None:
    study_in(
        storage=str(power_cut_disk.folder),
        recipe={"base": "tiny", "set": {"training.epochs": 8, "training.seed": 5}},
        trials=4 * cuts,
        early_stopping={"rule": rule, "grace_epochs": 2, "reduction": 2},
    )
    cut_again_and_again(power_cut_disk, cuts, random.Random(rule))


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_a_real_training_continues_from_the_checkpoint_that_a_power_cut_left(
    stub: Work, power_cut_disk: PowerCutDisk, study_in: Callable[..., Path]
) -> None:
    values = {"training.epochs": 6, "decoding_search.share": 0.0, "data.batch_seconds": 12.0}
    study_in(
        storage=str(power_cut_disk.folder),
        recipe={"base": "tiny", "set": values | {"tokenizer.vocabulary": 40}},
        trials=4,
        early_stopping={"rule": "none"},
    )
    ledger = cut_again_and_again(power_cut_disk, 10, random.Random(3), *REAL_WORK)
    assert {record.epoch for record in ledger.trials.values()} == {6}
