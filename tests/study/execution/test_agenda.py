"""Which trial is next, without Ray and without Optuna."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from model.recipe.files import named_recipe
from study.config.study_file import FailureSettings
from study.execution.agenda import Agenda
from study.execution.decisions import Action, Decision
from study.ledger.events import (
    SessionStarted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.proposal import InfeasiblePoint, Proposal
from study.workers.failure import Failure, FailureKind

RECIPE = named_recipe("tiny", "/speech")
LOST = Failure(FailureKind.LOST, "worker 1 of 2 was lost")


class Planned:
    """Proposals up to trial `count - 1`; those in `infeasible` make no recipe."""

    def __init__(self, count: int, infeasible: frozenset[int] = frozenset()) -> None:
        self.count, self._infeasible = count, infeasible

    def propose(self, trials: Trials) -> Proposal | InfeasiblePoint | None:
        number = trials.next_number
        if number >= self.count:
            return None
        return InfeasiblePoint(number, {}, "no") if number in self._infeasible else Proposal(number, RECIPE, {})

    def remaining(self, trials: Trials) -> int:
        return self.count - trials.next_number


class Rungs:
    """Promotes the paused trials that it is told to, and all of them in the order of their numbers once closed."""

    def __init__(self, trials: Trials) -> None:
        self.promotable: list[int] = []
        self._trials = trials

    def promote_next(self, closed: bool) -> int | None:
        waiting = [number for number, record in self._trials.items() if record.state is TrialState.WAITING]
        allowed = waiting if closed else [number for number in waiting if number in self.promotable]
        return allowed[0] if allowed else None


@dataclass
class World:
    """An agenda over a fold, with the clock in hand."""

    count: int = 4
    settings: FailureSettings = field(default_factory=FailureSettings)
    infeasible: frozenset[int] = frozenset()
    now: float = 0.0

    def __post_init__(self) -> None:
        self.trials = Trials()
        self.rungs = Rungs(self.trials)
        self.open()

    def open(self) -> None:
        """A session starts."""
        self.trials.apply(SessionStarted())
        planned = Planned(self.count, self.infeasible)
        self.agenda = Agenda(self.trials, planned, self._restore, self.rungs, self.settings, lambda: self.now)

    def start(self) -> int | None:
        """Start the next trial; its number."""
        while isinstance(proposal := self.agenda.next(), InfeasiblePoint):
            self.trials.apply(TrialEnded(number=proposal.number, state=TrialState.INFEASIBLE))
        if proposal is not None:
            self.trials.apply(TrialStarted(number=proposal.number))
        return None if proposal is None else proposal.number

    def succeed(self, number: int, state: TrialState = TrialState.COMPLETE) -> None:
        self.agenda.note_success()
        self.trials.apply(TrialEnded(number=number, state=state))

    def fail(self, number: int, failure: Failure) -> Decision:
        decision = self.agenda.handle_failure(number, failure)
        if decision.action is Action.RETRY:
            self.trials.apply(TrialRetried(number=number, count=decision.count))
        else:
            self.trials.apply(TrialEnded(number=number, state=decision.state))
        return decision

    def _restore(self, record: TrialRecord) -> Proposal:
        return Proposal(record.number, RECIPE, {})


def test_new_trials_come_until_the_budget_is_spent() -> None:
    world = World(2)
    assert [world.start() for _ in range(4)] == [0, 1, None, None]
    assert not world.agenda.is_done(), "two trials run"
    world.succeed(0)
    world.succeed(1)
    assert world.agenda.is_done()


def test_trials_of_an_earlier_session_go_on_first() -> None:
    world = World(3)
    assert [world.start(), world.start()] == [0, 1]
    world.open()
    assert [world.start() for _ in range(3)] == [0, 1, 2]


def test_a_trial_that_lost_its_workers_comes_again_later_each_time() -> None:
    world = World(1, FailureSettings(retries=2))
    assert world.start() == 0
    assert world.fail(0, LOST).action is Action.RETRY
    assert world.start() is None
    assert not world.agenda.is_done()
    world.now = 1.0
    assert world.start() == 0
    assert world.fail(0, LOST).count == 2
    world.now = 2.0
    assert world.start() is None
    world.now = 3.0
    assert world.start() == 0
    decision = world.fail(0, LOST)
    assert (decision.action, decision.state) == (Action.END, TrialState.FAILED)
    assert world.agenda.is_done()


def test_retries_of_an_earlier_session_count() -> None:
    world = World(1, FailureSettings(retries=1))
    world.start()
    world.fail(0, LOST)
    world.open()
    assert world.start() == 0
    assert world.fail(0, LOST).state is TrialState.FAILED


def test_the_same_error_in_a_row_stops_and_one_good_trial_between_starts_the_count_again() -> None:
    world = World(9, FailureSettings(same_error_stops=2))
    assert [world.start() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert world.fail(0, Failure(FailureKind.ERROR, "KeyError: 3")).action is Action.END
    world.succeed(1)
    assert world.fail(2, Failure(FailureKind.ERROR, "KeyError: 3")).action is Action.END
    assert world.fail(3, Failure(FailureKind.ERROR, "ValueError: 3")).action is Action.END
    decision = world.fail(4, Failure(FailureKind.ERROR, "ValueError: 4"))
    assert (decision.action, decision.count) == (Action.STOP, 2)


def test_promoted_trials_come_before_new_ones_and_the_rest_is_never_promoted() -> None:
    world = World(3)
    assert world.start() == 0
    world.trials.apply(TrialPaused(number=0, epoch=1))
    world.rungs.promotable = [0]
    assert world.start() == 0
    assert [world.start(), world.start()] == [1, 2]
    for number in (1, 2):
        world.trials.apply(TrialPaused(number=number, epoch=1))
    world.rungs.promotable = []
    assert world.start() is None, "trial 0 runs, so the rung is not closed"
    assert world.agenda.never_promoted() == []
    world.succeed(0)
    assert world.start() == 1, "the best of the rung goes on when nothing else is left"
    world.succeed(1)
    assert world.agenda.never_promoted() == [2]


def test_a_point_that_makes_no_recipe_is_handed_over_to_be_recorded() -> None:
    world = World(3, infeasible=frozenset({0, 2}))
    assert [world.start(), world.start()] == [1, None]
    assert [record.state for record in world.trials.values()] == [
        TrialState.INFEASIBLE,
        TrialState.RUNNING,
        TrialState.INFEASIBLE,
    ]


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), concurrency=st.integers(2, 4), pausing=st.booleans())
def test_under_any_interleaving_every_trial_ends_once_and_none_runs_twice(
    seed: int, concurrency: int, pausing: bool
) -> None:
    """Trials start, report, pause, fail, end and are cut off by a new session in any order."""
    chance = random.Random(seed)
    world = World(12, FailureSettings(retries=2, same_error_stops=99), frozenset({chance.randrange(12)}))
    ends: list[int] = []
    for _ in range(2000):
        running = world.trials.running
        if len(running) < concurrency:
            before = {number: record.state for number, record in world.trials.items()}
            number = world.start()
            if number is not None:
                assert before.get(number) in (None, TrialState.INTERRUPTED, TrialState.WAITING)
                continue
            if world.agenda.is_done():
                break
            world.now += chance.random()
        if not running:
            continue
        number = chance.choice(running)
        match chance.choice(["report", "report", "pause", "lost", "error", "end", "end", "session"]):
            case "report":
                world.trials.apply(TrialEpoch(number=number, epoch=world.trials[number].epoch + 1))
            case "pause" if pausing:
                world.trials.apply(TrialPaused(number=number, epoch=1))
                world.rungs.promotable = chance.sample(range(12), 3)
            case "lost":
                world.fail(number, LOST)
            case "error":
                world.fail(number, Failure(FailureKind.ERROR, "KeyError: 3"))
            case "session":
                world.open()
            case _:
                world.succeed(number)
        ends += [number for number, record in world.trials.items() if record.state.final and number not in ends]
    assert world.agenda.is_done()
    assert world.agenda.never_promoted() == [], "once closed, each of them was promoted"
    assert sorted(world.trials) == list(range(12))
    assert all(record.state.final for record in world.trials.values())
    assert all(record.retries <= 2 for record in world.trials.values())
