"""Which trial is next, without Ray and without Optuna."""

from __future__ import annotations

from collections.abc import Callable, Collection

from model.recipe.files import named_recipe
from study.config.study_file import FailureSettings
from study.early_stopping.promotion import Promotion
from study.early_stopping.verdict import Verdict
from study.execution.agenda import Agenda
from study.execution.decisions import Action
from study.ledger.records import TrialRecord, TrialState
from study.search.proposal import Proposal, Refused
from study.workers.failure import Failure, Kind

RECIPE = named_recipe("tiny", "/speech")
LOST = Failure(Kind.LOST, "worker 1 of 2 was lost")


class Planned:
    """Proposals 0, 1, 2, ... up to `count`; `left` are those of an earlier session."""

    def __init__(self, count: int, left: tuple[int, ...] = ()) -> None:
        self._numbers = iter(range(len(left), count))
        self._left = left
        self.asked = 0

    def propose(self, infeasible: Callable[[Refused], None], paused: Collection[int] = ()) -> Proposal | None:
        self.asked += 1
        number = next(self._numbers, None)
        return None if number is None else Proposal(number, RECIPE, {})

    def interrupted(self) -> list[Proposal]:
        return [Proposal(number, RECIPE, {}) for number in self._left]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def agenda(planned: Planned, rungs: Promotion | None = None, **given: object) -> tuple[Agenda, Clock]:
    clock = Clock()
    records = given.get("records", {})
    settings = given.get("settings", FailureSettings())
    return Agenda(planned, rungs, settings, records, clock), clock  # type: ignore[arg-type]


def continues(rungs: Promotion, number: int, value: float) -> bool:
    return rungs.decide(number, 1, value, baseline=False, last=False) is Verdict.CONTINUE


def numbers(made: Agenda, count: int) -> list[int | None]:
    found = [made.next(lambda refused: None) for _ in range(count)]
    return [proposal.number if proposal else None for proposal in found]


def test_new_trials_come_until_the_budget_is_spent_and_nobody_is_asked_again() -> None:
    planned = Planned(2)
    made, _ = agenda(planned)
    assert numbers(made, 4) == [0, 1, None, None]
    assert planned.asked == 3
    assert not made.done(), "two trials run"
    made.ended(0)
    made.ended(1)
    assert made.done()


def test_trials_of_an_earlier_session_go_on_first() -> None:
    made, _ = agenda(Planned(3, left=(0, 1)))
    assert numbers(made, 3) == [0, 1, 2]


def test_a_trial_that_lost_its_workers_comes_again_later_each_time() -> None:
    made, clock = agenda(Planned(1), settings=FailureSettings(retries=2))
    assert numbers(made, 1) == [0]
    assert made.broke(0, LOST).action is Action.RETRY
    assert numbers(made, 1) == [None]
    assert not made.done()
    clock.now = 1.0
    assert numbers(made, 1) == [0]
    assert made.broke(0, LOST).count == 2
    clock.now = 2.0
    assert numbers(made, 1) == [None]
    clock.now = 3.0
    assert numbers(made, 1) == [0]
    decision = made.broke(0, LOST)
    assert (decision.action, decision.state) == (Action.END, TrialState.FAILED)
    assert made.done()


def test_retries_of_an_earlier_session_count() -> None:
    made, _ = agenda(Planned(1, left=(0,)), settings=FailureSettings(retries=2), records={0: TrialRecord(0, retries=2)})
    assert numbers(made, 1) == [0]
    assert made.broke(0, LOST).state is TrialState.FAILED


def test_the_same_error_in_a_row_stops_and_one_good_trial_between_starts_the_count_again() -> None:
    made, _ = agenda(Planned(9), settings=FailureSettings(same_error_stops=2))
    numbers(made, 5)
    assert made.broke(0, Failure(Kind.ERROR, "KeyError: 3")).action is Action.END
    made.ended(1)
    assert made.broke(2, Failure(Kind.ERROR, "KeyError: 3")).action is Action.END
    assert made.broke(3, Failure(Kind.ERROR, "ValueError: 3")).action is Action.END
    decision = made.broke(4, Failure(Kind.ERROR, "ValueError: 4"))
    assert (decision.action, decision.count) == (Action.STOP, 2)


def test_paused_trials_are_promoted_before_new_ones_and_the_rest_is_left_behind() -> None:
    rungs = Promotion(1, 2)
    made, _ = agenda(Planned(4), rungs)
    for number, value in enumerate([20.0, 10.0]):
        assert numbers(made, 1) == [number]
        if continues(rungs, number, value):
            assert number == 1, "the best of two goes on at once"
        else:
            made.paused(number)
    made.ended(1)
    for number, value in [(2, 30.0), (3, 5.0)]:
        assert numbers(made, 1) == [number]
        if not continues(rungs, number, value):
            made.paused(number)
    made.ended(3)
    assert numbers(made, 1) == [None]
    assert made.done()
    assert made.left_behind() == [0, 2]


def test_a_trial_that_waited_when_the_study_stopped_waits_again() -> None:
    records = {0: TrialRecord(0, TrialState.WAITING), 1: TrialRecord(1, TrialState.INTERRUPTED)}
    rungs = Promotion.rebuild(1, 2, {0: {1: 9.0}}, waiting=[0])
    made, _ = agenda(Planned(2, left=(0, 1)), rungs, records=records)
    assert numbers(made, 1) == [1]
    assert not continues(rungs, 1, 10.0)
    made.paused(1)
    assert numbers(made, 1) == [0], "the best of the rung goes on when nothing else is left"
    made.ended(0)
    assert numbers(made, 1) == [None]
    assert made.left_behind() == [1]
