"""What a trial costs in seconds of its workers, estimated from the trials that ran so far.

A whole trial is the start of its workers, its epochs, and its ending: the search for a decoding, the figures of the
chosen weights, and, for named baselines and confirmations, the test sets. Classes of recipes differ in what an epoch
takes; a class without a report is taken to cost as much as the dearest one that has any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.ledger.records import TrialRecord, TrialState
from study.ledger.spent import TrialUse
from study.ledger.trials import Trials

LEAST_SPREAD = 0.02  # of a mean: trials that took equally long so far will differ in the end
SPREAD_OF_ONE = 0.1  # of a mean that only one trial has shown
NEWEST = 20  # trials that an estimate is made of: machines may become slower, or others join
DEVIATIONS = 2.0  # above the sum of means that a sum of costs stays below, but for one case in forty


@dataclass(frozen=True)
class Seconds:
    """A cost that is not known before it is there: its mean, and its standard deviation."""

    mean: float = 0.0
    deviation: float = 0.0

    @property
    def high(self) -> float:
        """What it will hardly exceed."""
        return self.mean + DEVIATIONS * self.deviation


def add(costs: Iterable[Seconds]) -> Seconds:
    """The sum of costs that do not depend on each other: its spread grows more slowly than its mean."""
    costs = list(costs)
    return Seconds(sum(one.mean for one in costs), math.sqrt(sum(one.deviation**2 for one in costs)))


class Costs:
    """Estimates from a study's trials, as they are when it is asked."""

    def __init__(self, trials: Trials, share: float = 0.0) -> None:
        """`share` is what the search for a decoding may take of a training's seconds, until a trial has ended."""
        self._trials, self._share = trials, share
        self._at = -1  # events that the summaries are of
        self._epochs: dict[str, Seconds] = {}
        self._endings: dict[bool, Seconds] = {}
        self._start = Seconds()  # of the workers, until an epoch begins

    def estimate_whole(self, recipe_class: str, epochs: int, with_tests: bool) -> Seconds | None:
        """A trial from its start to its end; None before any trial has reported an epoch."""
        epoch = self._estimate_epoch(recipe_class)
        return None if epoch is None else self._complete(_scale(epoch, epochs), with_tests, starts=True)

    def estimate_rest(self, number: int, now: float) -> Seconds | None:
        """What a trial that has not ended still needs from `now` on."""
        record, use = self._trials[number], self._find_use(number)
        left = max(0, (record.planned_epochs or 0) - record.epoch)
        epoch = summarise([use.reporting / use.reports]) if use.reports else None
        epoch = epoch or self._estimate_epoch(record.recipe_class)
        if epoch is None:
            return None
        rest = self._complete(_scale(epoch, left), _has_tests(record), starts=not use.has_started)
        return Seconds(max(0.0, rest.mean - self._since_report(use, now)), rest.deviation)

    def estimate_step(self, number: int, now: float) -> Seconds:
        """What a running trial needs until its next report, or, after its last one, until its end."""
        record, use = self._trials[number], self._find_use(number)
        left = (record.planned_epochs or 0) - record.epoch
        step = 0.0
        if left > 0 or record.planned_epochs is None:
            others = self._trials.spent.trials.values()
            step += use.longest if use.reports else max((one.longest for one in others), default=0.0)
        if left <= 1:  # its end follows on its last epoch
            step += self._complete(Seconds(), _has_tests(record), starts=False).high
        if not use.has_started:
            self._summarise()
            step += self._start.high
        return Seconds(max(0.0, step - self._since_report(use, now)))

    def estimate_tests(self) -> Seconds:
        """The scoring of one trial's test sets after its end."""
        after = [use.seconds for use in self._trials.spent.tests.values() if use.seconds]
        if after:
            return summarise(after)
        return self._estimate_ending(with_tests=True) or Seconds()

    def _find_use(self, number: int) -> TrialUse:
        return self._trials.spent.trials.get(number, TrialUse())

    @staticmethod
    def _since_report(use: TrialUse, now: float) -> float:
        return max(0.0, now - use.latest) if use.since is not None else 0.0

    def _estimate_epoch(self, recipe_class: str) -> Seconds | None:
        """An epoch of a class, or of the class whose epochs take longest."""
        self._summarise()
        return self._epochs.get(recipe_class) or max(self._epochs.values(), key=lambda one: one.mean, default=None)

    def _complete(self, training: Seconds, with_tests: bool, starts: bool) -> Seconds:
        """The cost of a training with its ending, and with the start of its workers."""
        ending = self._estimate_ending(with_tests) or Seconds(self._share * training.mean)
        return add([training, ending, *([self._start] if starts else [])])

    def _estimate_ending(self, with_tests: bool) -> Seconds | None:
        """Of trials whose test sets are scored in the end, or are not; of any, where none of them has ended."""
        self._summarise()
        return self._endings.get(with_tests) or self._endings.get(not with_tests)

    def _summarise(self) -> None:
        """What starts, epochs of each class, and endings took; once after each event."""
        if self._at == self._trials.spent.events:
            return
        epochs: dict[str, list[float]] = {}
        endings: dict[bool, list[float]] = {}
        starts: list[float] = []
        for number, use in self._trials.spent.trials.items():
            record = self._trials.get(number)
            if record is None:  # its number came by an event file that was put together by hand
                continue
            if use.reports:
                epochs.setdefault(record.recipe_class, []).append(use.reporting / use.reports)
            if use.starts:
                starts.append(use.starting / use.starts)
            if use.ending is not None:
                endings.setdefault(_has_tests(record), []).append(use.ending)
        self._epochs = {name: summarise(seconds[-NEWEST:]) for name, seconds in epochs.items()}
        self._endings = {with_tests: summarise(seconds[-NEWEST:]) for with_tests, seconds in endings.items()}
        self._start = _summarise_starts(starts[-NEWEST:]) if starts else Seconds()
        self._at = self._trials.spent.events


def _has_tests(record: TrialRecord) -> bool:
    """Whether its test sets are scored in the end, or were."""
    if record.state is TrialState.COMPLETE:
        return any(name.startswith("test/") for name in record.final_metrics)
    return record.baseline is not None or record.confirms is not None


def summarise(seconds: Sequence[float]) -> Seconds:
    """The cost of one more like these; of a single one the spread is not known, and taken to be large."""
    mean = math.fsum(seconds) / len(seconds)
    if len(seconds) == 1:
        return Seconds(mean, SPREAD_OF_ONE * mean)
    variance = math.fsum((one - mean) ** 2 for one in seconds) / (len(seconds) - 1)
    return Seconds(mean, max(math.sqrt(variance), LEAST_SPREAD * mean))


def _summarise_starts(seconds: Sequence[float]) -> Seconds:
    """The start of one more trial's workers: the first one of a session takes far longer than those that take its
    processes over, so the spread says little, and the longest so far is the most that is expected."""
    usual = summarise(seconds)
    most = max(max(seconds) - usual.mean, LEAST_SPREAD * usual.mean) / DEVIATIONS
    return Seconds(usual.mean, min(usual.deviation, most))


def _scale(seconds: Seconds, by: float) -> Seconds:
    return Seconds(seconds.mean * by, seconds.deviation * by)
