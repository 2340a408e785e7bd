"""`set concurrent_trials=N` on a study that runs: how many trials start beside each other from then on."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from open_session import OpenSession, give

from cluster.resources import ClusterUse, Node, NodeUse
from cluster.usage import ClusterWatch
from study.config.run_settings import WorkerSettings
from study.execution import capacity
from study.execution.budget_plan import Unlimited
from study.execution.capacity import Capacity, make_capacity
from study.search.proposer import Proposer

MACHINES = 3


class Machines(ClusterWatch):
    """Machines with room for a trial each, which nobody else uses."""

    def look(self) -> ClusterUse:
        return ClusterUse((NodeUse(Node(1), Node(1), Node(0)),) * MACHINES)

    def ask(self, count: int, avoided: Collection[str] = ()) -> None: ...
    def withdraw(self) -> None: ...


@pytest.fixture(autouse=True)
def _machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "ClusterWatch", Machines)


def open_capacity(running: OpenSession, concurrent_trials: int | None) -> Capacity:
    """The capacity of a session whose study file says so."""
    workers = WorkerSettings(concurrent_trials=concurrent_trials)
    ledger = running.ledger
    ledger.study = ledger.study.model_copy(update={"workers": workers})
    proposer = Proposer(ledger.study, ledger.base_recipe)
    return make_capacity(ledger, proposer, lambda *_: None, running.session, running.watch, False, Unlimited())


def count_admitted(opened: Capacity) -> int:
    """How many trials start, one after the other, while none of them ends."""
    count = 0
    while opened.admits(count):
        count += 1
    return count


@pytest.mark.parametrize("of_file", [None, 1, MACHINES])
def test_what_was_set_last_counts_at_the_next_trial_and_none_is_as_many_as_have_room(
    running: OpenSession, of_file: int | None
) -> None:
    opened = open_capacity(running, of_file)
    assert count_admitted(opened) == (of_file or MACHINES)
    for value, count in (("2", 2), ("none", MACHINES), ("1", 1), (f"{MACHINES + 1}", MACHINES)):
        give(running, "set", value=f"concurrent_trials={value}")
        assert count_admitted(opened) == count
    assert not opened.admits(MACHINES)


def test_where_more_run_than_was_set_none_starts_before_enough_of_them_have_ended(running: OpenSession) -> None:
    opened = open_capacity(running, None)
    give(running, "set", value="concurrent_trials=1")
    assert [opened.admits(count) for count in (3, 2, 1, 0)] == [False, False, False, True]
