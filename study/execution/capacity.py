"""How many trials run at the same time, while machines join and go and others use them.

A trial is started only when its workers have room beside what runs. Without that, Tune would start as many drivers of
groups as it may, because they take no CPU, and their workers would wait for each other.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from cluster.connect import list_nodes
from cluster.resources import ClusterUse, TrialResources, count_fitting_trials
from cluster.usage import ClusterWatch
from study.config.study_file import StudyFile
from study.execution.budget_plan import BudgetPlan, Unlimited
from study.execution.checks import make_trial_resources
from study.execution.ended_trials import find_unscored
from study.execution.node_watch import NodeWatch
from study.ledger.ledger import Ledger
from study.ledger.open_parts import list_open
from study.ledger.records import TrialState
from study.ledger.steering import CONCURRENT_TRIALS
from study.search.proposer import Proposer
from study.workers.placement import select_other_nodes

LOOK_SECONDS = 1.0  # between two looks at the cluster
PATIENCE_SECONDS = 5.0  # a shorter wait is not worth a line
GONE_SECONDS = 600.0  # to wait for machines that are gone, where the study file gives no time
LOST_SECONDS = 10.0  # the same for the one node of a Ray that the study has started itself, which does not come back
NO_TRIAL = -1  # a number of no trial's, which so avoids nothing but the excluded nodes
ASK_AT_ONCE = 8  # machines start side by side, but Ray's head tries to place every request again and again


class Cluster(Protocol):
    """The use of the cluster, and requests for more of it: `cluster.usage.ClusterWatch`."""

    def look(self) -> ClusterUse: ...
    def ask(self, count: int, avoided: Collection[str] = ()) -> None: ...
    def withdraw(self) -> None: ...


class Stoppable(Protocol):
    """A study that ends in order once it has a reason to stop."""

    stopped: str | None


class Capacity:
    """Answers before each trial whether it may start; shows what waits; stops a study that waits too long."""

    def __init__(
        self,
        cluster: Cluster,
        trial: TrialResources,
        count_waiting: Callable[[int], int],
        show: Callable[[int, str | None], None],
        study: Stoppable,
        most: int | None = None,
        wait_seconds: float | None = None,
        may_grow: bool = False,
        clock: Callable[[], float] = time.monotonic,
        find_end: Callable[[], str | None] = lambda: None,
        find_most: Callable[[], int | None] | None = None,
        find_bound: Callable[[], Sequence[Collection[str]]] = tuple,
    ) -> None:
        """`count_waiting` gives the number of trials that could start beside so many running ones, were there room;
        `show` gets how many have room and what the others wait for.

        `most` is the most trials at the same time; `find_most` gives it again before each trial. `wait_seconds` is how
        long not a single trial may have room; None is GONE_SECONDS where the machines are gone, LOST_SECONDS where
        the cluster may not grow, and without a limit where others use them. Where `may_grow`, the cluster is asked for
        what the waiting trials need. `find_end` says why all that runs has to end now; None while it need not.
        `find_bound` gives, for each waiting trial that has no room because it avoids nodes, the ids of these nodes.
        """
        self._cluster, self._trial, self._most = cluster, trial, math.inf if most is None else most
        self._count_waiting, self._show, self._study = count_waiting, show, study
        self._wait_seconds, self._may_grow, self._clock = wait_seconds, may_grow, clock
        self._find_end, self._find_most, self._find_bound = find_end, find_most, find_bound
        self._avoided: Collection[str] = ()  # by a waiting trial, where no other one waits than such
        self._use = ClusterUse(())
        self._next_look = -math.inf
        self._short_since = self._stalled_since = math.inf

    def admits(self, running: int) -> bool:
        """Whether one more trial may start beside `running` ones. To be asked again and again, also while none may."""
        now = self._clock()
        if self._find_most is not None:
            most = self._find_most()
            self._most = math.inf if most is None else most
        is_due = now >= self._next_look
        if is_due:
            self._use, self._next_look = self._cluster.look(), now + LOOK_SECONDS
            waiting, bound = self._count_waiting(running), self._find_bound()
            self._avoided = bound[0] if 0 < waiting <= len(bound) else ()
        room = self._use.count_trials(self._trial)
        is_admitted = running < min(room, self._most)
        if is_admitted and not self._avoided:
            self._cluster.withdraw()  # at once: a request would take the room before the trial's own does
        if is_due:
            if not is_admitted or self._avoided:
                self._ask(running, waiting)
            self._follow(room, running, waiting, now)
        # While nothing runs, the agenda ends the study in order.
        if (running or not is_admitted) and (end := self._find_end()):
            self._study.stopped = end
        return is_admitted

    def close(self) -> None:
        """Ask the cluster for nothing more."""
        self._cluster.withdraw()

    def _ask(self, running: int, waiting: int) -> None:
        """Ask for one more trial's resources; where the study says how many are to run, for those of so many."""
        most = 1 if self._most == math.inf or self._avoided else ASK_AT_ONCE
        # A trial whose workers are on their way has a request of its own, which another one could only delay.
        has_all = running <= self._use.placed
        count = max(0, min(most, self._most - running, waiting)) if self._may_grow and has_all else 0
        self._cluster.ask(int(count), self._avoided)

    def _follow(self, room: int, running: int, waiting: int, now: float) -> None:
        """Show what waits, once it waits for a while; stop where nothing can run for too long."""
        alone = self._use.count_trials_alone(self._trial)
        demand = running + waiting
        at_a_time = int(max(1, min(room, self._most)))
        if self._avoided:  # what is free is not for those that wait
            room = min(room, running)
        # Trials that were started wait too, where machines went meanwhile.
        wanted = max(running, min(demand, max(1, alone) if self._most == math.inf else self._most))
        self._short_since = min(self._short_since, now) if room < wanted else math.inf
        self._stalled_since = min(self._stalled_since, now) if room == 0 < demand else math.inf
        shown = now - self._short_since >= PATIENCE_SECONDS
        self._show(at_a_time, self._describe_wait() if shown else None)
        limit = self._find_limit(is_gone=alone == 0)
        if now - self._stalled_since >= limit:
            self._study.stopped = self._describe_end(limit)

    def _find_limit(self, is_gone: bool) -> float:
        if self._wait_seconds is not None:
            return self._wait_seconds
        if not is_gone:
            return math.inf
        return GONE_SECONDS if self._may_grow else LOST_SECONDS

    def _describe_wait(self) -> str:
        return f"waiting for {self._describe_lack()}"

    def _describe_end(self, limit: float) -> str:
        setting = "" if self._wait_seconds is not None else " sets another time"
        return f"waited {limit:g} s (workers.wait_seconds{setting}) for {self._describe_lack()}"

    def _describe_lack(self) -> str:
        if self._avoided:
            return f"{self._trial} where its trial has not failed"
        return f"{self._trial}; {self._use.describe_shortage(self._trial)}"


def count_trials_at_start(study: StudyFile) -> int:
    """How many trials run at the same time on the machines that there are now; 1 where the first ones have to come."""
    fitting = count_fitting_trials(list_nodes(), make_trial_resources(study))
    return max(1, min(fitting, study.workers.concurrent_trials or fitting))


def make_capacity(
    ledger: Ledger,
    proposer: Proposer,
    show: Callable[[int, str | None], None],
    study: Stoppable,
    nodes: NodeWatch,
    may_grow: bool,
    budget: BudgetPlan | Unlimited,
) -> Capacity:
    """The capacity of the connected cluster for the trials of a study, without the nodes that are excluded."""
    trial, workers = make_trial_resources(ledger.study), ledger.study.workers
    cluster = ClusterWatch(trial, functools.partial(nodes.find_avoided, NO_TRIAL), select_other_nodes)
    waiting = functools.partial(_count_waiting, ledger, proposer, budget)
    nodes.watch_room(lambda avoided: cluster.has_room_beside(avoided, len(ledger.trials.running)))

    def note(concurrency: int, waits_for: str | None) -> None:
        budget.concurrency = concurrency
        show(concurrency, waits_for)

    return Capacity(
        cluster,
        trial,
        waiting,
        note,
        study,
        workers.concurrent_trials,
        workers.wait_seconds,
        may_grow,
        find_end=budget.find_end,
        find_most=lambda: ledger.trials.steering.get(CONCURRENT_TRIALS, workers.concurrent_trials),
        find_bound=lambda: [nodes.find_avoided(one) for one in _list_interrupted(ledger) if not nodes.has_room(one)],
    )


def _count_waiting(ledger: Ledger, proposer: Proposer, budget: BudgetPlan | Unlimited, running: int) -> int:
    """The number of trials that could start now. Paused ones are not counted: the rule decides when they continue."""
    if budget.refused_last and running:  # a cluster that may grow is not to grow for them
        return 0
    trials = ledger.trials
    if trials.steering.starts_nothing:
        return 0
    waiting = proposer.count_remaining(trials) + len(_list_interrupted(ledger))
    if waiting or any(trials[number].confirms is None for number in trials.running):
        return waiting
    confirmations = proposer.count_confirmations(trials)
    return confirmations or int(running == 0 and find_unscored(ledger) is not None)


def _list_interrupted(ledger: Ledger) -> list[int]:
    """The interrupted trials that continue without anybody's doing."""
    held = ledger.trials.steering.held
    records = (record for record in list_open(ledger.trials, ledger.study) if record.number not in held)
    return [record.number for record in records if record.state is TrialState.INTERRUPTED]
