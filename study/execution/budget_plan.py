"""Whether the budget has room for one more trial, and whether a running one has room to go on.

A trial starts only when it can end within what is left after two things: what running trials still need, and what is
kept for the verdict. The estimates become better while trials run, so a trial that was let in may turn out to have no
room; it is then interrupted after an epoch, and continues when the budget is raised. Nothing is said of it meanwhile.

So what a search leaves unused is less than its next trial may take, beside what is kept for the verdict and for running
trials to leave their workers: a test holds this. Of a budget for 36 trials that is at most a twentieth; of one for 12
it may be a tenth. Where a rule pauses trials, the best of them are brought to their ends with what is too little for a
new one. Where no finalists can be named when the search has no more room, what was kept for them is its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from model.recipe.recipe import Recipe
from study.config.budget import SECONDS_PER_HOUR, BudgetSettings, describe_use, dump_budget
from study.config.question import class_of
from study.config.study_file import StudyFile
from study.evidence.costs import Costs, Seconds, add
from study.evidence.reserve import Reserve, find_margin, keep_reserve
from study.ledger.budget_events import CONFIRMATION, SEARCH, BudgetReached, StudyPart
from study.ledger.ledger import Ledger
from study.ledger.open_parts import is_closed, part_of
from study.ledger.trials import Trials
from study.search.proposal import Proposal
from study.verdict.finalists import choose_finalists


class Budget(Protocol):
    """What the agenda asks before a trial starts."""

    def admits(self, proposal: Proposal) -> bool: ...
    def has_room_alone(self, proposal: Proposal) -> bool: ...
    def admits_again(self, number: int) -> bool: ...
    def release_reserve(self) -> bool: ...
    def is_closed(self, part: StudyPart) -> bool: ...
    def close(self, part: StudyPart) -> BudgetReached: ...


class Unlimited:
    """The budget of a study that has none."""

    concurrency = 1
    refused_last = False

    def admits(self, proposal: Proposal) -> bool:
        return True

    def has_room_alone(self, proposal: Proposal) -> bool:
        return True

    def admits_again(self, number: int) -> bool:
        return True

    def release_reserve(self) -> bool:
        return False

    def is_closed(self, part: StudyPart) -> bool:
        return False

    def close(self, part: StudyPart) -> BudgetReached:
        raise AssertionError("a study without a budget does not reach it")

    def find_stop(self, number: int) -> str | None:
        """None: no trial has to leave its workers."""
        return None

    def find_end(self) -> str | None:
        return None


class BudgetPlan:
    """The budget of a study, planned again from its trials whenever it is asked. `clock` gives Unix seconds.

    `concurrency` is how many trials have room at the same time.
    """

    def __init__(
        self,
        study: StudyFile,
        budget: BudgetSettings,
        trials: Trials,
        epochs: int,
        share: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`epochs` are those of the base recipe, and `share` is what its search for a decoding may take."""
        self.concurrency = 1
        self.refused_last = False  # whether there was no room for what was asked for last
        self._study, self._budget, self._trials, self._epochs, self._clock = study, budget, trials, epochs, clock
        self._is_released = False  # whether nothing is kept for finalists until there are some
        self._costs = Costs(trials, share)

    def admits(self, proposal: Proposal) -> bool:
        """Whether a new trial can end within the budget. The first one of all starts alone: nothing is known of it."""
        return self._admits(*self._estimate(proposal))

    def has_room_alone(self, proposal: Proposal) -> bool:
        """Whether a new trial could end within the budget if what runs stopped now; so too before its cost is known."""
        part, cost = self._estimate(proposal)
        return cost is None or self._has_room(cost, cost, self._keep(part), self._clock())

    def admits_again(self, number: int) -> bool:
        """Whether a trial that was interrupted can end within the budget."""
        part = part_of(self._trials[number])
        return not self.is_closed(part) and self._admits(part, self._costs.estimate_rest(number, self._clock()))

    def release_reserve(self) -> bool:
        """Keep nothing to confirm finalists as long as none can be named, once the search has room for nothing else;
        whether that makes a difference."""
        if self._is_released or self._has_finalists():
            return False
        self._is_released = bool(self._keep(SEARCH).trainings)
        return self._is_released

    def is_closed(self, part: StudyPart) -> bool:
        """Whether the budget, as it is now, has ended a part of the study."""
        return is_closed(self._trials, self._study, part)

    def close(self, part: StudyPart) -> BudgetReached:
        """The event that ends a part of the study."""
        reason = f"{self._describe()}, no room for another trial"
        return BudgetReached(part=part, budget=dump_budget(self._budget), reason=reason)

    def find_stop(self, number: int) -> str | None:
        """Why a running trial that has just reported leaves its workers now; None where it goes on."""
        now, record, running = self._clock(), self._trials[number], self._trials.spent.running
        # What was let in while nothing was kept ends, though there may be finalists now.
        reserve = (self._keep_tests() if self._is_released else self._keep(part_of(record))).at_mean()
        rests = {other: (self._costs.estimate_rest(other, now) or Seconds()).mean for other in running}
        own = rests.get(number, 0.0)
        # Of those that have no room together, the ones that need most leave.
        nearer = sum(rest for rest in rests.values() if rest <= own)
        steps = [self._costs.estimate_step(other, now) for other in running]
        # What all need until their next report has to have room whatever the means say.
        if self._has_room(Seconds(nearer), Seconds(own), reserve, now) and self._has_room(
            add(steps), self._costs.estimate_step(number, now), reserve, now
        ):
            return None
        return f"{self._describe()} after epoch {record.epoch}, no room for the rest of it"

    def find_end(self) -> str | None:
        """Why all that runs has to end now, at whatever step; None as long as no limit is reached."""
        used = self._measure(self._clock())
        reached = [name for name, limit in self._limits.items() if used[name] >= limit]
        return f"{self._describe()}; raise budget.{reached[0]}" if reached else None

    @property
    def _limits(self) -> dict[str, float]:
        """The limits, less what is used while running trials leave their workers."""
        return {
            name: limit - find_margin(self._study, self._budget, name, self.concurrency)
            for name, limit in self._budget.limits.items()
        }

    def _estimate(self, proposal: Proposal) -> tuple[StudyPart, Seconds | None]:
        """The part of the study that a new trial belongs to, and its cost."""
        part = SEARCH if proposal.confirms is None else CONFIRMATION
        with_tests = part == CONFIRMATION or proposal.baseline is not None
        epochs = proposal.recipe.training.epochs
        return part, self._costs.estimate_whole(class_of(proposal.recipe), epochs, with_tests)

    def _admits(self, part: StudyPart, cost: Seconds | None) -> bool:
        now, running = self._clock(), self._trials.spent.running
        if cost is None:
            admitted = not running and self.find_end() is None
        else:
            costs = [cost, *(self._costs.estimate_rest(number, now) or Seconds() for number in running)]
            admitted = self._has_room(add(costs), max(costs, key=lambda one: one.high), self._keep(part), now)
        self.refused_last = not admitted
        return admitted

    def _has_finalists(self) -> bool:
        return choose_finalists(self._trials, self._study) is not None

    def _keep_tests(self) -> Reserve:
        return self._keep(CONFIRMATION)  # which keeps nothing but these

    def _keep(self, part: StudyPart) -> Reserve:
        if part == SEARCH and self._is_released and not self._has_finalists():
            return self._keep_tests()
        return keep_reserve(self._study, self._trials, self._costs, part, self._epochs, self.concurrency)

    def _has_room(self, needed: Seconds, longest: Seconds, reserve: Reserve, now: float) -> bool:
        """Whether the seconds of workers that are `needed`, of which `longest` are one after the other, and then the
        reserve fit into what is left of each limit."""
        used = self._measure(now)
        for name, limit in self._limits.items():
            if name == "hours":
                more = add([longest, reserve.find_duration(self.concurrency)]).high / SECONDS_PER_HOUR
            else:
                more = add([needed, reserve.sum_up()]).high * self._rate(name)
            if used[name] + more > limit:
                return False
        return True

    def _measure(self, now: float) -> dict[str, float]:
        return self._trials.spent.measure(self._budget, self._study.workers, now)

    def _rate(self, name: str) -> float:
        return self._budget.find_rate(name, self._study.workers)

    def _describe(self) -> str:
        return f"budget: {describe_use(self._measure(self._clock()), self._budget)} used"


def plan_budget(ledger: Ledger) -> BudgetPlan | Unlimited:
    """The budget of a ledger's study."""
    return plan_for(ledger.study, ledger.trials, ledger.base_recipe)


def plan_for(
    study: StudyFile, trials: Trials, base: Recipe, clock: Callable[[], float] = time.time
) -> BudgetPlan | Unlimited:
    """The budget of a study with these trials, on its base recipe."""
    if study.budget is None:
        return Unlimited()
    return BudgetPlan(study, study.budget, trials, base.training.epochs, base.decoding_search.share, clock)
