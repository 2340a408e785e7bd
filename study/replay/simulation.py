"""One study of recorded trainings on a virtual clock: real proposer, real rule, and every second that it would cost.

Each of the study's workers trains one trial at a time. An epoch takes what it took when it was recorded, a trial that
was paused pays its start again, and one that comes to its end pays its final decoding and the search for it. The
sampler takes no time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from study.early_stopping.rule import Rule, Ruling
from study.early_stopping.rules import build_rule
from study.ledger.events import AnyEvent, TrialEnded, TrialEpoch, TrialPaused, TrialStarted, TrialState
from study.ledger.trials import Trials
from study.replay.candidates import Candidates
from study.replay.strategies import Strategy
from study.replay.table import Table, Training
from study.search.proposer import Proposer


@dataclass(frozen=True)
class Found:
    """A trial came to its end, after `compute` worker seconds of the whole study."""

    compute: float
    training: Training


@dataclass
class Trace:
    """What a strategy found in one study, in the order of the virtual clock, and what it spent in all."""

    found: list[Found] = field(default_factory=list)
    compute: float = 0.0
    seconds: float = 0.0  # of the virtual clock
    pruned: int = 0  # trials that were stopped early, or that stayed paused


@dataclass
class _Running:
    """A trial on its way; `reported` is the number of its epochs so far."""

    training: Training
    baseline: str | None
    reported: int = 0
    is_ending: bool = False


def choose_seeds(table: Table, seed: int, every_seed: bool) -> list[Training]:
    """The trainings that a study may try: one of each configuration, of a random seed, or all of them."""
    if every_seed:
        return list(table.trainings)
    draw = random.Random(seed)
    return [draw.choice(table.of_configuration(configuration)) for configuration in table.configurations]


def simulate(table: Table, strategy: Strategy, seed: int, workers: int, every_seed: bool = False) -> Trace:
    """Run the strategy once over the table, until nothing is left to try."""
    return _Simulation(table, strategy, seed, workers, choose_seeds(table, seed, every_seed)).run()


class _Simulation:
    def __init__(
        self, table: Table, strategy: Strategy, seed: int, workers: int, trainings: Sequence[Training]
    ) -> None:
        named = [name for name in table.study.baselines if any(t.record.baseline == name for t in trainings)]
        search = table.study.search.model_copy(update={"sampler": strategy.sampler, "seed": seed})
        # One objective: what is measured is how soon its best is found, also by rules that stop trials.
        objective = table.study.objective.model_copy(update={"second": None})
        update = {"search": search, "trials": len(trainings), "baselines": tuple(named), "objective": objective}
        self._table, self._workers = table, workers
        self._proposer = Proposer(table.study.model_copy(update=update), table.base)
        self._candidates = Candidates(self._proposer.space, trainings)
        self._objective = table.study.objective.metric
        self._trials = Trials()
        own = strategy.make_rule(len(trainings), self._objective)
        self._rule: Rule = own or build_rule(strategy.early_stopping, self._objective, {})
        self._running: dict[int, _Running] = {}
        self._started: dict[int, _Running] = {}
        self._queue: list[tuple[float, int, int]] = []  # (time, order of entry, number)
        self._entries = 0
        self._now = 0.0
        self._trace = Trace()

    def run(self) -> Trace:
        self._fill()
        while self._queue:
            time, _, number = heapq.heappop(self._queue)
            self._trace.compute += len(self._running) * (time - self._now)
            self._now = time
            self._advance(number, self._running[number])
            self._fill()
        self._trace.seconds = self._now
        self._trace.pruned += sum(record.state is TrialState.WAITING for record in self._trials.values())
        return self._trace

    def _fill(self) -> None:
        """Give every free worker a promoted trial, or a new one; when none runs or is new, close the rungs."""
        while len(self._running) < self._workers:
            number = self._rule.promote_next()
            if number is None:
                number = self._propose()
            if number is None and not self._running:
                number = self._rule.promote_next(closed=True)
            if number is None:
                return
            self._start(number)

    def _propose(self) -> int | None:
        """The number of a new trial; None where every training was tried."""
        if not len(self._candidates):
            return None
        proposal = self._proposer.propose(self._trials)
        if proposal is None:
            return None
        baseline = getattr(proposal, "baseline", None)
        training = self._candidates.take_named(baseline) if baseline else None
        self._started[proposal.number] = _Running(training or self._candidates.take_nearest(proposal.point), baseline)
        return proposal.number

    def _start(self, number: int) -> None:
        trial = self._started[number]
        self._running[number] = trial
        record = trial.training.record
        self._apply(
            TrialStarted(
                time=self._now,
                number=number,
                recipe_hash=record.recipe_hash,
                values=record.values,
                point=record.point,
                baseline=trial.baseline,
                epochs=record.epochs[-1].epoch,
            )
        )
        again = self._table.start_cost if trial.reported else 0.0
        self._wait(number, again + trial.training.costs[trial.reported])

    def _advance(self, number: int, trial: _Running) -> None:
        """A trial has reported an epoch, or its end."""
        if trial.is_ending:
            self._end(number, TrialState.COMPLETE)
            self._trace.found.append(Found(self._trace.compute, trial.training))
            return
        reports = trial.training.record.epochs
        report = reports[trial.reported]
        trial.reported += 1
        last = trial.reported == len(reports)
        self._apply(TrialEpoch(time=self._now, number=number, epoch=report.epoch, metrics=report.metrics))
        ruling = Ruling.CONTINUE
        if self._objective in report.metrics:
            ruling = self._rule.decide(
                number, report.epoch, report.metrics, baseline=trial.baseline is not None, last=last
            )
        if ruling is Ruling.PRUNE:
            self._trace.pruned += 1
            self._end(number, TrialState.PRUNED)
        elif ruling is Ruling.PAUSE:
            del self._running[number]
            self._apply(TrialPaused(time=self._now, number=number, epoch=report.epoch))
        elif last:
            trial.is_ending = True
            self._wait(number, trial.training.end_cost)
        else:
            self._wait(number, trial.training.costs[trial.reported])

    def _end(self, number: int, state: TrialState) -> None:
        trial = self._running.pop(number)
        metrics = trial.training.record.final_metrics if state is TrialState.COMPLETE else {}
        self._apply(TrialEnded(time=self._now, number=number, state=state, metrics=metrics))

    def _apply(self, event: AnyEvent) -> None:
        self._trials.apply(event)

    def _wait(self, number: int, seconds: float) -> None:
        self._entries += 1
        heapq.heappush(self._queue, (self._now + seconds, self._entries, number))
