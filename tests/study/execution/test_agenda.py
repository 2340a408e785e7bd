"""Which trial is next, without Ray and without Optuna."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.recipe.files import named_recipe
from study.config.run_settings import FailureSettings
from study.execution.agenda import Agenda
from study.execution.decisions import Action, Decision
from study.ledger.events import (
    ControlGiven,
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


class PlannedProposals:
    """Proposals up to trial `count - 1`; those in `infeasible` make no recipe."""

    confirmations = 0  # that would come next

    def __init__(self, count: int, infeasible: frozenset[int] = frozenset()) -> None:
        self.count, self._infeasible = count, infeasible

    def propose(self, trials: Trials) -> Proposal | InfeasiblePoint | None:
        number = trials.next_number
        if number >= self.count:
            return None
        return InfeasiblePoint(number, {}, "no") if number in self._infeasible else Proposal(number, RECIPE, {})

    def count_remaining(self, trials: Trials) -> int:
        return self.count - trials.next_number

    def confirm(self, trials: Trials) -> None:
        """It asks no question."""

    def count_confirmations(self, trials: Trials) -> int:
        return self.confirmations


class Rungs:
    """Promotes the paused trials in `promotable`, and once closed all of them in the order of their numbers."""

    def __init__(self, trials: Trials) -> None:
        self.promotable: list[int] = []
        self._trials = trials

    def promote_next(self, closed: bool) -> int | None:
        waiting = [number for number, record in self._trials.items() if record.state is TrialState.WAITING]
        allowed = waiting if closed else [number for number in waiting if number in self.promotable]
        return allowed[0] if allowed else None


@dataclass
class Simulation:
    """An agenda over a fold, with a clock that the test sets."""

    count: int = 4
    settings: FailureSettings = field(default_factory=FailureSettings)
    infeasible: frozenset[int] = frozenset()
    now: float = 0.0

    def __post_init__(self) -> None:
        self.trials = Trials()
        self.rungs = Rungs(self.trials)
        self.start_session()

    def start_session(self) -> None:
        """Start a session, with an agenda of its own."""
        self.trials.apply(SessionStarted())
        self.proposals = PlannedProposals(self.count, self.infeasible)
        self.agenda = Agenda(self.trials, self.proposals, self._restore, self.rungs, self.settings, lambda: self.now)

    def start(self) -> int | None:
        """Start the next trial; its number, None where there is none."""
        while isinstance(proposal := self.agenda.next(), InfeasiblePoint):
            self.trials.apply(TrialEnded(number=proposal.number, state=TrialState.INFEASIBLE))
        if proposal is not None:
            self.trials.apply(TrialStarted(number=proposal.number))
        return None if proposal is None else proposal.number

    def succeed(self, number: int, state: TrialState = TrialState.COMPLETE) -> None:
        self.agenda.note_success()
        self.trials.apply(TrialEnded(number=number, state=state))

    def fail(self, number: int, failure: Failure, elsewhere: bool = False) -> Decision:
        decision = self.agenda.handle_failure(number, failure, elsewhere)
        if decision.action is Action.RETRY:
            self.trials.apply(TrialRetried(number=number, count=decision.count))
        elif decision.action is Action.MOVE:
            self.trials.apply(TrialRetried(number=number, count=decision.count, elsewhere=True))
        else:
            self.trials.apply(TrialEnded(number=number, state=decision.state))
        return decision

    def _restore(self, record: TrialRecord) -> Proposal:
        return Proposal(record.number, RECIPE, {})


def test_new_trials_start_until_the_budget_is_spent() -> None:
    simulation = Simulation(2)
    assert [simulation.start() for _ in range(4)] == [0, 1, None, None]
    assert not simulation.agenda.is_done(), "two trials run"
    simulation.succeed(0)
    simulation.succeed(1)
    assert simulation.agenda.is_done()


def test_interrupted_trials_of_an_earlier_session_continue_first() -> None:
    simulation = Simulation(3)
    assert [simulation.start(), simulation.start()] == [0, 1]
    simulation.start_session()
    assert [simulation.start() for _ in range(3)] == [0, 1, 2]


def test_a_trial_that_lost_its_workers_is_retried_after_a_delay_that_grows() -> None:
    simulation = Simulation(1, FailureSettings(retries=2))
    assert simulation.start() == 0
    assert simulation.fail(0, LOST).action is Action.RETRY
    assert simulation.start() is None
    assert not simulation.agenda.is_done()
    simulation.now = 1.0
    assert simulation.start() == 0
    assert simulation.fail(0, LOST).count == 2
    simulation.now = 2.0
    assert simulation.start() is None
    simulation.now = 3.0
    assert simulation.start() == 0
    decision = simulation.fail(0, LOST)
    assert (decision.action, decision.state) == (Action.END, TrialState.FAILED)
    assert simulation.agenda.is_done()


def test_retries_of_an_earlier_session_count() -> None:
    simulation = Simulation(1, FailureSettings(retries=1))
    simulation.start()
    simulation.fail(0, LOST)
    simulation.start_session()
    assert simulation.start() == 0
    assert simulation.fail(0, LOST).state is TrialState.FAILED


def test_a_trial_that_gets_further_between_its_losses_is_retried_for_ever() -> None:
    """On machines that are taken away again and again, a training of weeks loses its workers more often than that."""
    simulation = Simulation(1, FailureSettings(retries=1))
    for epoch in range(1, 50):
        assert simulation.start() == 0
        simulation.trials.apply(TrialEpoch(number=0, epoch=epoch))
        assert simulation.fail(0, LOST).count == 1
        simulation.now += 1.0
    assert simulation.trials[0].retries == 49
    assert simulation.start() == 0
    assert simulation.fail(0, LOST).state is TrialState.FAILED, "it got no further since the last one"


def test_a_trial_that_is_tried_elsewhere_starts_at_once_and_no_retry_is_counted() -> None:
    simulation = Simulation(1, FailureSettings(retries=1, same_error_stops=1))
    assert simulation.start() == 0
    decision = simulation.fail(0, Failure(FailureKind.ERROR, "KeyError: 3"), elsewhere=True)
    assert (decision.action, decision.count) == (Action.MOVE, 0)
    assert simulation.start() == 0
    assert simulation.fail(0, LOST).action is Action.RETRY
    simulation.now = 1.0
    assert simulation.start() == 0
    assert simulation.fail(0, Failure(FailureKind.ERROR, "KeyError: 3")).action is Action.STOP


def test_a_trial_without_room_elsewhere_lets_others_go_first() -> None:
    simulation = Simulation(2)
    assert simulation.start() == 0
    simulation.fail(0, Failure(FailureKind.START, "no room", lacks_room=True), elsewhere=True)
    assert simulation.start() == 1
    simulation.now = 30.0
    assert simulation.start() == 0


def test_a_reopened_trial_continues_before_new_ones_and_has_all_its_retries() -> None:
    simulation = Simulation(2, FailureSettings(retries=0))
    assert simulation.start() == 0
    assert simulation.fail(0, LOST).state is TrialState.FAILED
    simulation.trials.apply(ControlGiven(who="ada@laptop", command="retry", number=0))
    assert not simulation.agenda.is_done()
    simulation.start_session()
    assert [simulation.start(), simulation.start(), simulation.start()] == [0, 1, None]


def test_the_same_error_in_a_row_stops_the_study_and_a_successful_trial_between_resets_the_count() -> None:
    simulation = Simulation(9, FailureSettings(same_error_stops=2))
    assert [simulation.start() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert simulation.fail(0, Failure(FailureKind.ERROR, "KeyError: 3")).action is Action.END
    simulation.succeed(1)
    assert simulation.fail(2, Failure(FailureKind.ERROR, "KeyError: 3")).action is Action.END
    assert simulation.fail(3, Failure(FailureKind.ERROR, "ValueError: 3")).action is Action.END
    decision = simulation.fail(4, Failure(FailureKind.ERROR, "ValueError: 4"))
    assert (decision.action, decision.count) == (Action.STOP, 2)


@pytest.mark.parametrize(("confirms", "left", "expected"), [(0, 1, []), (0, 0, [1]), (None, 1, [1])])
def test_a_study_of_which_a_person_has_paused_all_ends_unless_it_has_confirmations_to_start(
    confirms: int | None, left: int, expected: list[int]
) -> None:
    study = Simulation(count=1)
    study.succeed(study.start() or 0)
    study.trials.apply(TrialStarted(number=1, confirms=confirms))
    study.trials.apply(ControlGiven(who="ada@laptop", command="pause", number=1))
    study.trials.apply(TrialEnded(number=1, state=TrialState.INTERRUPTED))
    study.proposals.confirmations = left
    study.proposals.count = 2
    assert study.agenda.list_held() == expected


def test_promoted_trials_come_before_new_ones_and_the_rest_is_never_promoted() -> None:
    simulation = Simulation(3)
    assert simulation.start() == 0
    simulation.trials.apply(TrialPaused(number=0, epoch=1))
    simulation.rungs.promotable = [0]
    assert simulation.start() == 0
    assert [simulation.start(), simulation.start()] == [1, 2]
    for number in (1, 2):
        simulation.trials.apply(TrialPaused(number=number, epoch=1))
    simulation.rungs.promotable = []
    assert simulation.start() is None, "trial 0 runs, so the rung is not closed"
    assert simulation.agenda.never_promoted() == []
    simulation.succeed(0)
    assert simulation.start() == 1, "the best of the rung continues when nothing else is left"
    simulation.succeed(1)
    assert simulation.agenda.never_promoted() == [2]


def test_a_point_that_makes_no_recipe_is_returned_to_be_recorded() -> None:
    simulation = Simulation(3, infeasible=frozenset({0, 2}))
    assert [simulation.start(), simulation.start()] == [1, None]
    assert [record.state for record in simulation.trials.values()] == [
        TrialState.INFEASIBLE,
        TrialState.RUNNING,
        TrialState.INFEASIBLE,
    ]


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), concurrency=st.integers(2, 4), pausing=st.booleans())
def test_under_any_interleaving_every_trial_ends_once_and_none_runs_twice(
    seed: int, concurrency: int, pausing: bool
) -> None:
    """Trials start, report, pause, fail, end and are interrupted by a new session in any order."""
    generator = random.Random(seed)
    simulation = Simulation(12, FailureSettings(retries=2, same_error_stops=99), frozenset({generator.randrange(12)}))
    ends: list[int] = []
    for _ in range(2000):
        running = simulation.trials.running
        if len(running) < concurrency:
            before = {number: record.state for number, record in simulation.trials.items()}
            number = simulation.start()
            if number is not None:
                assert before.get(number) in (None, TrialState.INTERRUPTED, TrialState.WAITING)
                continue
            if simulation.agenda.is_done():
                break
            simulation.now += generator.random()
        if not running:
            continue
        number = generator.choice(running)
        match generator.choice(["report", "report", "pause", "lost", "error", "end", "end", "session"]):
            case "report":
                simulation.trials.apply(TrialEpoch(number=number, epoch=simulation.trials[number].epoch + 1))
            case "pause" if pausing:
                simulation.trials.apply(TrialPaused(number=number, epoch=1))
                simulation.rungs.promotable = generator.sample(range(12), 3)
            case "lost":
                simulation.fail(number, LOST)
            case "error":
                simulation.fail(number, Failure(FailureKind.ERROR, "KeyError: 3"))
            case "session":
                simulation.start_session()
            case _:
                simulation.succeed(number)
        ends += [number for number, record in simulation.trials.items() if record.state.final and number not in ends]
    assert simulation.agenda.is_done()
    assert simulation.agenda.never_promoted() == [], "a paused trial was not promoted at the close"
    assert sorted(simulation.trials) == list(range(12))
    assert all(record.state.final for record in simulation.trials.values())
    assert all(record.retries_here <= 2 for record in simulation.trials.values())
