"""However the sync is cut, restarted and disturbed, MLflow has the same runs in the end."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow_fake import FakeClient
from random_events import Driver

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger import events as kinds
from study.ledger.event_lines import to_line
from study.ledger.events import AnyEvent, SessionStarted, StudyEnded, TrialEnded, TrialEpoch, TrialStarted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.ledger.trials import Trials
from study.tracking import mlflow_runs
from study.tracking.sync import Sync

RECIPE = named_recipe("tiny", "/speech")
STUDY = {"name": "probe", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
TRIALS = 4


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A study on a server that `FakeClient` stands for; each example writes its own events."""
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


@settings(deadline=None, max_examples=80)
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
    assert visible(disturbed, driver.trials) == visible(at_once, driver.trials)


def sync_all(running: Sync) -> None:
    """Until all is up to date."""
    while running.sync_batch():
        pass


def visible(client: FakeClient, trials: Trials) -> dict[str, Any]:
    """What MLflow shows, by the names of the runs.

    A run that continues keeps the end and the files of its interruption, so those of runs that have ended are compared.
    """
    assert len({run.name for run in client.runs.values()}) == len(client.runs)
    shown = {}
    for run in client.runs.values():
        parent = client.runs.get(run.tags.get("mlflow.parentRunId", ""))
        tags = {name: value for name, value in run.tags.items() if name != "mlflow.parentRunId"}
        number = tags.get("trial.number")
        has_ended = trials.study_state is not TrialState.RUNNING if number is None else trials[int(number)].ended
        ended = (run.end_time, run.files) if has_ended else None
        shown[run.name] = (parent and parent.name, run.status, run.start_time, ended, tags, run.params, run.rows)
    return shown


READS = {"get_experiment_by_name", "search_runs", "get_run", "get_metric_history"}


def a_study(ledger: Ledger, epochs: int = 3) -> list[AnyEvent]:
    """Two trials, one that has ended and one that runs, after `epochs` epochs each."""
    clear(ledger)
    events: list[AnyEvent] = [SessionStarted(time=1.0)]
    for number in (0, 1):
        events.append(TrialStarted(time=2.0, number=number, values={"ctc_weight": 0.3}))
        events += [epoch_event(number, epoch) for epoch in range(1, epochs + 1)]
    events.append(TrialEnded(time=9000.0, number=0, state=TrialState.COMPLETE, metrics={"test/a/wer": 30.0}))
    write(ledger, events)
    return events


def epoch_event(number: int, epoch: int, time: float = 10.0) -> TrialEpoch:
    return TrialEpoch(time=time + epoch, number=number, epoch=epoch, metrics={"dev/wer": 90.0, "train/loss": 1.0})


def count_requests(client: FakeClient, running: Sync) -> dict[str, int]:
    """Those of a whole sync."""
    client.requests.clear()
    with connected(client):
        sync_all(running)
    return dict(Counter(client.requests))


def test_a_study_that_is_up_to_date_costs_one_look_and_an_epoch_one_request(ledger: Ledger) -> None:
    a_study(ledger)
    client, running = FakeClient(), Sync(ledger)
    count_requests(client, running)
    assert count_requests(client, running) == {}
    assert count_requests(client, Sync(ledger)) == {"get_experiment_by_name": 1, "search_runs": 2}
    write(ledger, [epoch_event(1, 4)])
    count_requests(client, running)  # looks again, because another process had its turn
    write(ledger, [epoch_event(1, 5)])
    assert count_requests(client, running) == {"log_batch": 1}


def test_a_backlog_is_few_requests_of_bounded_size(ledger: Ledger) -> None:
    a_study(ledger, epochs=1000)
    client = FakeClient()
    requests = count_requests(client, Sync(ledger))
    # Two trials of 2,000 points in batches of 800; each end and the study's own run are two more.
    assert requests["log_batch"] <= 2 * 3 + 4
    assert requests["set_experiment_tag"] == 3, "one for each view"
    assert sum(requests.values()) < 24
    assert {len(run.rows) for run in client.runs.values()} == {0, 2000, 2001}


def test_a_session_after_a_crash_sends_the_rest_and_nothing_twice(ledger: Ledger) -> None:
    a_study(ledger)
    client = FakeClient()
    count_requests(client, Sync(ledger))
    ids = set(client.runs)
    write(ledger, [SessionStarted(time=100.0), TrialStarted(time=101.0, number=1, values={"ctc_weight": 0.3})])
    write(ledger, [epoch_event(1, 4, 110.0)])
    requests = count_requests(client, Sync(ledger))
    assert set(client.runs) == ids
    assert not client.deleted
    # What the one trial's run holds is read, metric by metric.
    once = {name: requests.get(name, 0) for name in ("create_run", "get_run", "get_metric_history", "log_batch")}
    assert once == {"create_run": 0, "get_run": 1, "get_metric_history": 2, "log_batch": 1}


def test_points_of_an_event_that_a_crash_lost_do_not_stay_beside_the_new_ones(ledger: Ledger) -> None:
    """MLflow may have read an event that was not yet on the disk."""
    events = a_study(ledger, epochs=1)
    client = FakeClient()
    count_requests(client, Sync(ledger))
    clear(ledger)
    write(ledger, [event for event in events if getattr(event, "number", 0) == 0 or event.kind == "trial_started"])
    running = Sync(ledger)
    count_requests(client, running)  # the trial has no epoch now, and its run has one
    write(ledger, [epoch_event(1, 1, 50.0)])
    count_requests(client, running)
    (run,) = (run for run in client.runs.values() if run.name == "0001")
    assert sorted((step, time) for name, step, _, time in run.rows if name == "dev/wer") == [(1, 51_000)]


def test_a_run_that_is_replaced_keeps_what_people_noted_on_it(ledger: Ledger) -> None:
    a_study(ledger)
    client = FakeClient()
    count_requests(client, Sync(ledger))
    (old,) = (run for run in client.runs.values() if run.name == "0001")
    old.tags |= {"mlflow.note.content": "the best so far", "mlflow.runName": "0001"}
    write(ledger, [epoch_event(1, 2, 50.0)])
    count_requests(client, Sync(ledger))
    (new,) = (run for run in client.runs.values() if run.name == "0001")
    assert list(client.deleted) == [old.id]
    assert new.tags["mlflow.note.content"] == "the best so far"
    assert sorted((step, time) for name, step, _, time in new.rows if name == "dev/wer") == [(1, 11_000), (2, 52_000)]


def test_what_others_logged_to_a_run_is_left_alone(ledger: Ledger) -> None:
    a_study(ledger)
    client = FakeClient()
    count_requests(client, Sync(ledger))
    (run,) = (run for run in client.runs.values() if run.name == "0001")
    run.rows.add(("their/metric", 7, "1.0", 12345))
    run.params["their param"] = "x"
    write(ledger, [epoch_event(1, 4)])
    count_requests(client, Sync(ledger))
    assert not client.deleted
    assert ("their/metric", 7, "1.0", 12345) in run.rows


def test_to_compare_changes_nothing(ledger: Ledger) -> None:
    a_study(ledger)
    client = FakeClient()
    with connected(client):
        assert Sync(ledger).compare() == 3
        sync_all(Sync(ledger))
        write(ledger, [epoch_event(1, 4)])
        client.requests.clear()
        assert Sync(ledger).compare() == 1
    assert set(client.requests) <= READS


def test_a_run_that_a_late_request_made_twice_is_deleted_by_the_process_that_asked_twice(ledger: Ledger) -> None:
    a_study(ledger)
    client, running = FakeClient(), Sync(ledger)
    client.faults = iter([*[""] * 9, "late"])
    with connected(client):
        with pytest.raises(ConnectionError, match="late"):
            sync_all(running)
        sync_all(running)
    assert client.requests.count("create_run") == 4
    assert sorted(run.name for run in client.runs.values()) == ["0000", "0001", "probe"]
    assert len(client.deleted) == 1


def test_processes_write_one_after_the_other(ledger: Ledger) -> None:
    a_study(ledger)
    client = FakeClient()
    with connected(client):
        with Sync(ledger)._take_turn():
            other = threading.Thread(target=sync_all, args=(Sync(ledger),))
            other.start()
            other.join(0.5)
            assert other.is_alive()
            assert client.requests == []
        other.join(30)
    assert len(client.runs) == 3


@pytest.mark.parametrize("end", [StudyEnded(time=9e3, state=TrialState.COMPLETE), kinds.StudyInterrupted(time=9e3)])
def test_a_report_that_is_written_after_the_end_is_sent_and_views_that_are_gone_are_made_again(
    ledger: Ledger, end: AnyEvent
) -> None:
    a_study(ledger)
    write(ledger, [end])
    client, running = FakeClient(), Sync(ledger)
    count_requests(client, running)
    report = ledger.folder / "report.html"
    report.write_text("x")
    try:
        requests = count_requests(client, running)
        assert requests.pop("log_artifact") == 3, "with the study file and the manifest"
        assert count_requests(client, running) == {}
        (parent,) = (run for run in client.runs.values() if run.name == "probe")
        assert str(report) in parent.files
    finally:
        report.unlink()
    client.experiment_tags.clear()
    with connected(client):
        Sync(ledger).sync_batch(verify=True)
    assert len(client.experiment_tags) == 3


def test_a_view_that_mlflow_refuses_costs_nothing_but_itself(ledger: Ledger) -> None:
    a_study(ledger)
    client = FakeClient()
    with connected(client), patch.object(FakeClient, "set_experiment_tag", side_effect=ValueError("no tags here")):
        sync_all(Sync(ledger))
        assert Sync(ledger).compare() == 0
    assert sorted(run.name for run in client.runs.values()) == ["0000", "0001", "probe"]
    assert not client.experiment_tags
