"""However the sync is cut, restarted and disturbed, MLflow has the same runs in the end."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow_fake import FakeClient

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.events import (
    AnyEvent,
    EpochReport,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialImported,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    to_line,
)
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.ledger.trials import Trials
from study.tracking import mlflow_runs
from study.tracking.sync import Sync

RECIPE = named_recipe("tiny", "/speech")
STUDY = {"name": "probe", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
TRIALS = 4
FINAL = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A study on a server that `FakeClient` stands for; each example writes its events anew."""
    study = StudyFile.model_validate(STUDY | {"tracking": "http://127.0.0.1:9"})
    ledger = Ledger.create_or_open(tmp_path_factory.mktemp("study") / "probe", study, RECIPE, {"id": "one"})
    for number in range(TRIALS):
        ledger.trial_folder(number).mkdir(parents=True)
        (ledger.trial_folder(number) / "recipe.yaml").write_text("x")
    return ledger


def write(ledger: Ledger, events: list[AnyEvent]) -> None:
    """Add them to the ledger's one event file."""
    (ledger.folder / "events").mkdir(exist_ok=True)
    with (ledger.folder / "events" / "000001.jsonl").open("ab") as file:
        file.writelines(map(to_line, events))


def clear(ledger: Ledger) -> None:
    """A study without an event."""
    shutil.rmtree(ledger.folder / "events", ignore_errors=True)


def connected(client: FakeClient) -> Any:
    """Within it, `client` is the server."""
    return patch.object(mlflow_runs, "connect", lambda uri: client)


@dataclass
class Driver:
    """Makes the events that a driver writes: what a trial does next depends on what it did."""

    clock: Iterator[float] = field(default_factory=lambda: itertools.count(1000.0, 0.5))
    trials: Trials = field(default_factory=Trials)

    def next_event(self, number: int, choice: int) -> AnyEvent:
        """One of the events that are possible now, of a trial or of the study."""
        possible = self._trial_events(number)
        if self.trials.study_state is not TrialState.RUNNING:
            possible = [lambda time: SessionStarted(time=time)]
        elif choice % 8 == 0:
            possible = self._study_events()
        event = possible[choice // 8 % len(possible)](next(self.clock))
        self.trials.apply(event)
        return event

    def _study_events(self) -> list[Callable[[float], AnyEvent]]:
        return [
            lambda time: StudyInterrupted(time=time, best=1, best_recipe_hash="abc"),
            lambda time: SessionStarted(time=time),
            lambda time: StudyEnded(time=time, state=TrialState.COMPLETE, best=0, best_recipe_hash="abc"),
        ]

    def _trial_events(self, number: int) -> list[Callable[[float], AnyEvent]]:
        record, values = self.trials.get(number), {"ctc_weight": number / 10}
        known: dict[str, Any] = {"number": number, "values": values}
        start = lambda time: TrialStarted(time=time, baseline="ed" if number == 0 else None, **known)  # noqa: E731
        if record is None:
            return [
                *[start] * 8,
                lambda time: TrialEnded(time=time, state=TrialState.INFEASIBLE, reason="no", **known),
                lambda time: TrialImported(
                    time=time, source="other/1", state=TrialState.PRUNED, epochs=EPOCHS, **known
                ),
            ]
        if record.state.final:
            return [lambda time: SessionStarted(time=time)]
        if record.state is not TrialState.RUNNING:
            return [start]
        epochs = [self._epoch(number, epoch) for epoch in range(1, record.epoch + 2)]  # new or reported before
        return [
            *epochs[-1:] * 4,
            *epochs * 2,
            lambda time: TrialPaused(time=time, number=number, epoch=record.epoch, reason="waits"),
            lambda time: TrialRetried(time=time, number=number, reason="lost", count=record.retries + 1),
            lambda time: TrialEnded(time=time, number=number, state=TrialState.INTERRUPTED, reason="stopped"),
            *(self._end(number, state) for state in FINAL),
        ]

    @staticmethod
    def _epoch(number: int, epoch: int) -> Callable[[float], AnyEvent]:
        metrics = {"dev/wer": 90.0 - epoch, "train/loss": float("nan")}
        return lambda time: TrialEpoch(time=time, number=number, epoch=epoch, metrics=metrics)

    @staticmethod
    def _end(number: int, state: TrialState) -> Callable[[float], AnyEvent]:
        metrics = {"test/a/wer": 30.0} if state is TrialState.COMPLETE else {}
        return lambda time: TrialEnded(time=time, number=number, state=state, metrics=metrics)


EPOCHS = (EpochReport(epoch=1, metrics={"dev/wer": 60.0}), EpochReport(epoch=2, metrics={"dev/wer": 50.0}))
FAULTS = st.just([]) | st.lists(st.sampled_from(["", "", "", "lost request", "lost answer", "late"]), max_size=12)
# Of which trial an event comes, which one of the possible ones, and what follows: nothing, or one of two processes
# syncs as far as it comes, after a restart, or comparing everything.
STEPS = st.tuples(
    st.integers(0, TRIALS - 1),
    st.integers(0, 399),
    st.sampled_from(["nothing", "sync", "restart", "verify"]),
    st.integers(0, 1),
    FAULTS,
)


@settings(deadline=None, max_examples=150)
@given(steps=st.lists(STEPS, min_size=10, max_size=60))
def test_any_batching_and_any_lost_request_or_answer_give_the_same_runs(ledger: Ledger, steps: list[Any]) -> None:
    clear(ledger)
    driver, disturbed, processes = Driver(), FakeClient(), [Sync(ledger), Sync(ledger)]
    write(ledger, [driver.next_event(0, 0)])
    with connected(disturbed):
        for number, choice, action, process, faults in steps:
            write(ledger, [driver.next_event(number, choice)])
            if action == "restart":
                processes[process] = Sync(ledger)
            if action != "nothing":
                disturbed.faults = iter(faults)
                with contextlib.suppress(ConnectionError):
                    processes[process].sync_batch(action == "verify")
        disturbed.faults = iter(())
        sync_all(processes[0])
        assert processes[0].count_outdated(driver.trials) == 0
        assert Sync(ledger).compare() == 0
        sync_all(Sync(ledger))  # the next session, which deletes a run that a late request made twice
        at_once = FakeClient()
    with connected(at_once):
        sync_all(Sync(ledger))
    assert visible(disturbed) == visible(at_once)


def sync_all(running: Sync) -> None:
    """Until all is up to date."""
    while running.sync_batch():
        pass


def visible(client: FakeClient) -> dict[str, Any]:
    """What MLflow shows, by the names of the runs.

    A run that continues keeps the end and the files of its interruption, so those of runs that have ended are compared.
    """
    assert len({run.name for run in client.runs.values()}) == len(client.runs)
    shown = {}
    for run in client.runs.values():
        parent = client.runs.get(run.tags.get("mlflow.parentRunId", ""))
        tags = {name: value for name, value in run.tags.items() if name != "mlflow.parentRunId"}
        ended = None if run.status in ("RUNNING", "SCHEDULED") else (run.end_time, run.files)
        shown[run.name] = (parent and parent.name, run.status, run.start_time, ended, tags, run.params, run.rows)
    return shown
