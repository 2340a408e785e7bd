"""What a session records of nodes on which trainings fail, and what later sessions make of it."""

from __future__ import annotations

import errno
import time

import pytest
from open_session import OpenSession, report
from typer.testing import CliRunner

from cluster.resources import Node
from model.errors import UserError
from study.cli.main import app
from study.display.status import describe_excluded
from study.display.status_json import make_status
from study.execution.node_watch import EXCLUDED_SECONDS, WorkerNode
from study.execution.steering import give_command
from study.ledger.events import NodeExcluded, StudyEnded, StudyInterrupted
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind


def test_a_trial_that_failed_on_one_node_is_tried_on_another_and_its_failure_is_recorded_with_the_node(
    on_cluster: OpenSession,
) -> None:
    on_cluster.session.next()
    on_cluster.session.fail(0, Failure(FailureKind.ERROR, "KeyError: 3", "host-a", "a"))
    record = on_cluster.ledger.trials[0]
    assert (record.state, record.retries) == (TrialState.INTERRUPTED, 0)
    assert record.reason == "KeyError: 3 (node host-a); tried again on another node"
    again = on_cluster.session.next()
    assert again is not None
    assert (again.number, again.avoided) == (0, ("a",))
    on_cluster.session.fail(0, Failure(FailureKind.ERROR, "KeyError: 3", "host-b", "b"))
    assert on_cluster.ledger.trials[0].state is TrialState.FAILED
    places = [(event.node, event.node_id) for event in on_cluster.ledger.log.read() if hasattr(event, "node_id")]
    assert places == [("host-a", "a"), ("host-b", "b")]
    assert on_cluster.lines == []
    assert not on_cluster.session.is_stopping()


def test_an_excluded_node_is_recorded_announced_in_one_line_and_avoided(on_cluster: OpenSession) -> None:
    for number in range(2):
        on_cluster.session.next()
        on_cluster.session.fail(number, Failure(FailureKind.ERROR, "KeyError: 3", "host-a", "a"))
        on_cluster.session.next()
        on_cluster.session.record_epoch(number, report(1))
    assert on_cluster.lines == [
        "node host-a (a) is excluded: trials 0000 and 0001 failed there and got further on other nodes, the last one "
        "with KeyError: 3. Sessions keep away from it for a day, while others have room; once it is corrected: "
        "decred-study node STUDY host-a use"
    ]
    assert [event.node_id for event in Ledger.open(on_cluster.ledger.folder).trials.excluded] == ["a"]
    third = on_cluster.session.next()
    assert third is not None
    assert third.avoided == ("a",)
    on_cluster.nodes = on_cluster.nodes[:1]
    assert on_cluster.session.next() is None
    assert on_cluster.session.stopped == "only excluded nodes have room for a trial: host-a (a)"


def test_a_folder_that_no_node_sees_stops_the_study_and_no_trial_fails_for_it(on_cluster: OpenSession) -> None:
    for name in "ab":
        on_cluster.session.next()
        on_cluster.session.fail(
            0, Failure(FailureKind.STORAGE, f"node host-{name} does not see it", f"host-{name}", name)
        )
    assert on_cluster.ledger.trials[0].state is TrialState.INTERRUPTED
    assert on_cluster.session.stopped == "node host-b does not see it"


FULL = "OSError: [Errno 28] No space left on device: '/tmp/scratch'"


def test_a_machine_whose_own_disk_is_full_is_excluded_and_the_study_goes_on(on_cluster: OpenSession) -> None:
    for number in range(2):
        on_cluster.session.next()
        on_cluster.session.fail(number, Failure(FailureKind.DISK_FULL, FULL, "host-a", "a"))
        on_cluster.session.next()
        on_cluster.session.record_epoch(number, report(1))
    assert [line.partition(". ")[0] for line in on_cluster.lines] == [
        "node host-a (a) is excluded: trials 0000 and 0001 failed there and got further on other nodes, the last one "
        f"with {FULL}"
    ]
    assert not on_cluster.session.is_stopping()


def test_a_disk_that_is_full_on_another_machine_too_is_the_shared_one_and_stops_the_study(
    on_cluster: OpenSession,
) -> None:
    on_cluster.session.next()
    on_cluster.session.fail(0, Failure(FailureKind.DISK_FULL, FULL, "host-a", "a"))
    assert on_cluster.ledger.trials[0].reason == f"{FULL} (node host-a); tried again on another node"
    on_cluster.session.next()
    with pytest.raises(OSError, match="No space left on device") as raised:
        on_cluster.session.fail(0, Failure(FailureKind.DISK_FULL, FULL, "host-b", "b"))
    assert raised.value.errno == errno.ENOSPC
    assert on_cluster.ledger.trials[0].state is TrialState.INTERRUPTED
    assert on_cluster.lines == []


def exclude(session: OpenSession, name: str) -> None:
    """Have two trials fail on a node and get further on the other one."""
    for number in range(2):
        session.session.next()
        session.session.fail(number, Failure(FailureKind.ERROR, "KeyError: 3", f"host-{name}", name))
        session.session.next()
        session.session.record_epoch(number, report(1))


def avoided(session: OpenSession, name: str) -> bool:
    trial = session.session.next()
    assert trial is not None
    return name in trial.avoided


def test_the_next_session_keeps_away_from_an_excluded_node_whose_ray_is_another_one_now(
    on_cluster: OpenSession,
) -> None:
    exclude(on_cluster, "a")
    on_cluster.session.interrupt()
    # Its name is that of the session before, its id is new.
    again = OpenSession(on_cluster.ledger.folder, [WorkerNode("a2", "host-a", "a", Node(1.0)), *on_cluster.nodes[1:]])
    assert avoided(again, "a2")
    (event,) = again.ledger.trials.excluded
    assert event.until == pytest.approx(time.time() + EXCLUDED_SECONDS, abs=600)


def test_an_excluded_node_of_an_earlier_session_is_used_where_no_other_has_room(on_cluster: OpenSession) -> None:
    exclude(on_cluster, "a")
    on_cluster.session.interrupt()
    again = OpenSession(on_cluster.ledger.folder, on_cluster.nodes[:1])
    assert not avoided(again, "a")
    assert not again.session.is_stopping()


def test_a_node_that_was_corrected_is_used_again_by_the_command(on_cluster: OpenSession) -> None:
    exclude(on_cluster, "a")
    on_cluster.session.interrupt()
    folder = on_cluster.ledger.folder
    with pytest.raises(UserError, match=r"^study 's' excludes no node 'host-b'; it excludes host-a \(a\)$"):
        give_command(folder, "use", value="host-b")
    assert give_command(folder, "use", value="host-a") == "node host-a (a) is used again when the study is continued"
    ledger = Ledger.open(folder)
    assert (ledger.trials.excluded, ledger.trials.study_state) == ((), TrialState.INTERRUPTED)
    with pytest.raises(UserError, match=r"^study 's' excludes no node 'a'; it excludes none$"):
        give_command(folder, "use", value="a")
    assert not avoided(OpenSession(folder, on_cluster.nodes), "a")


@pytest.mark.parametrize("name", ["host-a", "a", "host-a (a)"])
def test_the_command_takes_a_nodes_host_its_address_or_both(name: str, on_cluster: OpenSession) -> None:
    exclude(on_cluster, "a")
    folder = on_cluster.ledger.folder
    done = CliRunner().invoke(app, ["node", str(folder), name, "use"])
    assert (done.exit_code, done.output) == (0, f"node host-a (a) is used again with: decred-study run {folder}\n")
    assert Ledger.open(folder).trials.excluded == ()


def test_status_shows_an_excluded_node_until_its_time_is_over(on_cluster: OpenSession) -> None:
    exclude(on_cluster, "a")
    on_cluster.session.interrupt()
    OpenSession(on_cluster.ledger.folder)
    trials = Ledger.open(on_cluster.ledger.folder).trials
    (line,) = describe_excluded(trials)
    assert line.startswith("node host-a (a) is excluded until 20")
    assert line.endswith(
        ": trials 0000 and 0001 failed there and got further on other nodes, the last one with KeyError: 3"
    )
    trials.apply(StudyInterrupted())
    assert list(describe_excluded(trials, now=time.time() + EXCLUDED_SECONDS)) == []
    trials.apply(NodeExcluded(node="b", node_id="b", reason="it is sick"))  # of an earlier version
    *_, last = describe_excluded(trials)
    assert last == "node b is excluded until the next session: it is sick"
    trials.apply(StudyEnded(state=TrialState.COMPLETE))
    assert list(describe_excluded(trials)) == []


def test_a_node_is_used_again_and_shown_no_more_when_its_day_is_over_in_the_same_session(
    on_cluster: OpenSession,
) -> None:
    exclude(on_cluster, "a")
    ledger, until = on_cluster.ledger, on_cluster.ledger.trials.excluded[0].until
    assert until is not None
    assert [one["until"] for one in make_status(ledger, now=until - 1)["excluded_nodes"]] == [until]
    assert len(list(describe_excluded(ledger.trials, now=until - 1))) == 1
    assert make_status(ledger, now=until)["excluded_nodes"] == []
    assert list(describe_excluded(ledger.trials, now=until)) == []
    on_cluster.now += EXCLUDED_SECONDS
    assert not avoided(on_cluster, "a")
