"""Where a trial's weights are placed, and what follows where their store fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.runtime.stop_request import StopRequest
from model.weights.chosen import CHOSEN
from model.weights.object_store import StoreError
from model.weights.run_store import WeightsAt, read_weights_at, write_weights_at
from study.config.object_store import ObjectStoreSettings
from study.config.run_settings import FailureSettings
from study.execution.decisions import Action, decide
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Close, Failed, Task
from study.workers.storage import place_weights
from study.workers.worker import classify_error, serve

URL = "s3://bucket/studies"


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., WeightsAt | None]:
    """Place trial 3's weights under a URL, or in its folder; where they are then."""
    folder = tmp_path / "trials" / "0003"
    folder.mkdir(parents=True)

    def place(url: str | None, wait_seconds: float = 300.0) -> WeightsAt | None:
        settings = ObjectStoreSettings(checkpoints=url, wait_seconds=wait_seconds)
        ledger: Any = SimpleNamespace(
            study=SimpleNamespace(name="probe", object_store=settings),
            manifest={"id": "0123456789abcdef"},
            trial_folder=lambda number: tmp_path / "trials" / f"{number:04d}",
        )
        place_weights(ledger, 3)
        return read_weights_at(folder)

    return place


def test_a_new_trial_has_a_folder_of_its_own_study_in_the_store(place: Callable[..., WeightsAt | None]) -> None:
    assert place(URL) == WeightsAt(f"{URL}/probe-01234567/trials/0003", 300.0)


def test_a_trial_that_began_in_one_place_stays_there_and_waits_as_the_study_file_has_it_now(
    place: Callable[..., WeightsAt | None],
) -> None:
    place(URL)
    for url in (None, "s3://other"):
        assert place(url, 10.0) == WeightsAt(f"{URL}/probe-01234567/trials/0003", 10.0)


@pytest.mark.parametrize("name", ["checkpoints", CHOSEN])
def test_a_trial_that_began_in_its_folder_stays_there(
    name: str, place: Callable[..., WeightsAt | None], tmp_path: Path
) -> None:
    (tmp_path / "trials" / "0003" / name).mkdir()
    assert place(URL) is None


def test_a_trial_that_shares_the_weights_of_another_goes_on_sharing_them(
    place: Callable[..., WeightsAt | None], tmp_path: Path
) -> None:
    shared = WeightsAt("s3://bucket/of/another", shared=True)
    write_weights_at(tmp_path / "trials" / "0003", shared)
    assert place(URL) == shared


@dataclass
class Channel:
    """A driver's end that gives one task and keeps what is sent."""

    tasks: list[Task | Close]
    sent: list[Any] = field(default_factory=list)
    stop: StopRequest = field(default_factory=StopRequest)

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def receive(self) -> Task | Close:
        return self.tasks.pop(0)


def fail(*arguments: object) -> None:
    raise StoreError("s3://bucket/a has not answered for 300 s (why); start the store")


def test_a_store_that_fails_stops_the_study_as_a_full_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_recipe: Callable[..., Any]
) -> None:
    monkeypatch.setattr("study.workers.worker.load_function", lambda path: fail)
    recipe = make_recipe()
    channel = Channel([Task(recipe.model_dump_json(), recipe.hash, str(tmp_path)), Close()])
    serve(channel, 0, "any:train")  # type: ignore[arg-type]
    failed = channel.sent[-1]
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reusable) == (FailureKind.OBJECT_STORE, False), "other workers wait for this one"
    assert failed.reason == "s3://bucket/a has not answered for 300 s (why); start the store"
    decision = decide(Failure(failed.failure, failed.reason), 0, 0, FailureSettings())
    assert (decision.action, decision.state) == (Action.STOP, TrialState.INTERRUPTED)


def test_a_store_that_is_full_is_not_the_disk_that_holds_the_study() -> None:
    error = StoreError("s3://bucket/a does not answer")
    error.__cause__ = OSError(28, "No space left on device")
    assert classify_error(error) is FailureKind.OBJECT_STORE
