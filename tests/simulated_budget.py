"""Studies with a budget on a virtual clock: the real agenda, plan and proposer, and trials that only take time."""

from __future__ import annotations

import copy
import heapq
import random
from dataclasses import dataclass, field
from typing import Any

from ledger_events import start_event

from model.recipe.files import named_recipe, with_values
from study.config.study_file import StudyFile
from study.early_stopping.rule import Ruling
from study.early_stopping.rules import build_rule
from study.execution.agenda import Agenda
from study.execution.budget_plan import plan_for
from study.ledger.budget_events import SEARCH
from study.ledger.events import (
    BudgetReached,
    FinalistsChosen,
    Seconds,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialState,
)
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.proposal import InfeasiblePoint, Proposal
from study.search.proposer import Proposer

EPOCHS = 4
TICK = 1.0  # seconds between two looks at the limits, as the driver looks while trials run


def make_study(budget: dict[str, Any] | None, **changes: Any) -> StudyFile:
    """A study of trials that differ in the CTC weight, which asks no question unless `changes` do."""
    content: dict[str, Any] = {
        "name": "s",
        "corpus": "/speech",
        "trials": 1000,
        "baselines": ["ed"],
        "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "sampler": "random"},
        "score_tests": "none",
        "early_stopping": {"rule": "none"},
        "budget": budget,
    }
    return StudyFile.model_validate(content | changes)


@dataclass
class Simulation:
    """A study whose epochs take `epoch` seconds, times up to `1 + spread`, and `slow` times as long after `slow_after`.

    `slots` trials have room at the same time, and each trains `epochs`. Trials differ in how good they are, which shows
    from their first epoch on but for some noise.
    """

    study: StudyFile
    slots: int = 1
    epoch: float = 60.0
    spread: float = 0.1
    ending: float = 20.0
    start: float = 5.0
    seed: int = 0
    slow: float = 1.0
    slow_after: float = float("inf")
    epochs: int = EPOCHS
    now: float = 1000.0
    trials: Trials = field(default_factory=Trials)
    ended: bool = False
    stopped: str | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._queue: list[tuple[float, int]] = []
        self._trains_since: dict[int, float] = {}
        self._proposals: dict[int, Proposal] = {}
        self.running_at_reports: list[int] = []  # how many ran at each report
        self.at_end: Trials | None = None  # as they were when the search ended because of the budget
        self.left_at_end: dict[str, float] = {}  # of each limit then

    def run(self, until: float = float("inf")) -> Simulation:
        """A session: to its end, or to a kill at `until`, as the next session will find it."""
        values = {"training.epochs": self.epochs, "decoding_search.share": 0.0}
        base = with_values(named_recipe("tiny", "/speech"), values)
        proposer = Proposer(self.study, base, lambda record: base)
        self._queue, self.stopped, self.ended = [], None, False
        self.trials.apply(SessionStarted(time=self.now, alive_until=self.now, concurrency=self.slots))
        self._plan = plan_for(self.study, self.trials, base, lambda: self.now)
        self._plan.concurrency = self.slots
        self._rule = build_rule(self.study.early_stopping, "dev/wer", self.trials, self.study.classes)
        agenda = Agenda(
            self.trials,
            proposer,
            lambda record: self._proposals[record.number],
            self._rule,
            self.study.failures,
            lambda: self.now,
            self._plan,
        )
        while self.now < until:
            while len(self._queue) < self.slots and (given := self._take(agenda)) is not None:
                self._proposals[given.number] = given
                self.trials.apply(start_event(given, self.epochs).model_copy(update={"time": self.now}))
                self._trains_since[given.number] = self.now + self.start
                self._expect(given.number, self.epoch, self.start)
            if not self._queue:
                assert agenda.is_done(), "nothing runs, and nothing comes"
                for number in agenda.never_promoted():
                    self._end(number, TrialState.PRUNED, "others of its rung were better")
                self.trials.apply(StudyEnded(time=self.now, state=TrialState.COMPLETE))
                self.ended = True
                return self
            self._advance(until)
            if self.stopped is not None:
                self.trials.apply(StudyInterrupted(time=self.now, reason=self.stopped))
                return self
        return self

    @property
    def used(self) -> dict[str, float]:
        """What was used of each limit, until now."""
        assert self.study.budget is not None
        return self.trials.spent.measure(self.study.budget, self.study.workers, self.now)

    @property
    def _limits(self) -> dict[str, float]:
        assert self.study.budget is not None
        return self.study.budget.limits

    def list_states(self, state: TrialState) -> list[TrialRecord]:
        """The trials in a state."""
        return [record for record in self.trials.values() if record.state is state]

    def _take(self, agenda: Agenda) -> Proposal | None:
        while isinstance(given := agenda.next(), InfeasiblePoint | FinalistsChosen | BudgetReached):
            assert not isinstance(given, InfeasiblePoint)
            if isinstance(given, BudgetReached) and given.part == SEARCH:
                self.at_end = copy.deepcopy(self.trials)
                self.left_at_end = {name: limit - self.used[name] for name, limit in self._limits.items()}
            self.trials.apply(given.model_copy(update={"time": self.now}))
        return given

    def _advance(self, until: float) -> None:
        """To the next report, or to the moment at which the limits or a kill end the session."""
        due = self._queue[0][0]
        while self.now < min(due, until):
            self.now = min(self.now + TICK, due, until)
            if end := self._plan.find_end():
                self.stopped = end
                return
        if self.now >= due and self.now < until:
            self._report(heapq.heappop(self._queue)[1])

    def _report(self, number: int) -> None:
        record = self.trials[number]
        self.running_at_reports.append(len(self.trials.running))
        quality = random.Random(1000 * self.seed + number).gauss(0.0, 3.0)
        if record.epoch == self.epochs:
            metrics = {"dev/wer": 40.0 + quality, "dev/wer_final": 40.0 + quality}
            self._end(number, TrialState.COMPLETE, metrics=metrics)
            return
        epoch = record.epoch + 1
        seconds = Seconds(training=self.now - self._trains_since[number])
        self._trains_since[number] = self.now
        metrics = {"dev/wer": 50.0 + quality - 10.0 * epoch / self.epochs + self._random.gauss(0.0, 1.0)}
        self.trials.apply(TrialEpoch(time=self.now, number=number, epoch=epoch, metrics=metrics, seconds=seconds))
        self._follow(number, epoch, metrics)

    def _follow(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        """What becomes of a trial after an epoch: the rule is asked first, and then the budget, as Tune's scheduler
        asks them."""
        record, last = self.trials[number], epoch == self.epochs
        ruling = Ruling.CONTINUE
        if record.confirms is None:
            ruling = self._rule.decide(number, epoch, metrics, baseline=record.baseline is not None, last=last)
        if ruling is Ruling.PRUNE:
            self._end(number, TrialState.PRUNED, "behind its rung")
        elif ruling is Ruling.PAUSE:
            self.trials.apply(TrialPaused(time=self.now, number=number, epoch=epoch, reason="waits at its rung"))
        elif reason := self._plan.find_stop(number):
            self._end(number, TrialState.INTERRUPTED, reason)
        else:
            self._expect(number, self.ending if last else self.epoch)

    def _end(
        self, number: int, state: TrialState, reason: str | None = None, metrics: dict[str, float] | None = None
    ) -> None:
        self.trials.apply(TrialEnded(time=self.now, number=number, state=state, reason=reason, metrics=metrics or {}))

    def _expect(self, number: int, seconds: float, start: float = 0.0) -> None:
        slower = self.slow if self.now >= self.slow_after else 1.0
        seconds *= slower * (1 + self._random.uniform(0, self.spread))
        heapq.heappush(self._queue, (self.now + start + seconds, number))
