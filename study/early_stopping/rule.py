"""What a stopping rule is asked, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol


class Ruling(Enum):
    """What happens to a trial after an epoch."""

    CONTINUE = "continue"
    PRUNE = "prune"  # it ends here
    PAUSE = "pause"  # it gives its workers back and waits until `promote_next` names it
    INTERRUPT = "interrupt"  # no ruling of a rule's: it gives its workers back, and says nothing of its recipe


class Rule(Protocol):
    """A stopping rule. It is asked once for every reported epoch, in the order of the reports; smaller is better.

    A ruling depends on nothing but what the study's records hold at that moment: an epoch that a trial reports again,
    after a resume, replaces the trial's first report of it and all that followed, as in the records. So a rule that is
    built from the records decides as the one that was there from the beginning.
    """

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        """What happens to trial `number` that reports `metrics` after `epoch`.

        A `baseline` is never stopped, and neither is a trial after the `last` epoch of its recipe; others are compared
        with both. An epoch is what the recipe reports after: `training.epoch_steps` steps, or a pass over the data.
        """

    def explain(self, number: int) -> str | None:
        """What the last ruling on the trial rests on; None where it was compared with no other, or where there is no
        more to say than that it is behind its rung."""

    def remove(self, number: int) -> None:
        """Forget a trial that failed: no other is compared with it any more."""

    def override(self, number: int, ended: bool) -> None:
        """A person has decided on a trial, whatever the last ruling on it was: it goes on, or it has `ended`.

        It waits at no rung any more. What it has reported stays, and others are compared with it.
        """

    def promote_next(self, closed: bool = False) -> int | None:
        """The paused trial that continues now; None where none may, or where the rule pauses none.

        `closed`: nothing runs, and no new trial will come.
        """


class OneFigureRule(Protocol):
    """A rule that compares trials by a single figure; otherwise as a `Rule`."""

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Ruling: ...
    def remove(self, number: int) -> None: ...
    def override(self, number: int, ended: bool) -> None: ...
    def promote_next(self, closed: bool = False) -> int | None: ...


class ByMetric:
    """A rule by one of the reported metrics; a report without it decides nothing."""

    def __init__(self, rule: OneFigureRule, metric: str) -> None:
        self.rule, self._metric = rule, metric

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        if self._metric not in metrics:
            return Ruling.CONTINUE
        return self.rule.decide(number, epoch, metrics[self._metric], baseline=baseline, last=last)

    def explain(self, number: int) -> str | None:
        return None

    def remove(self, number: int) -> None:
        self.rule.remove(number)

    def override(self, number: int, ended: bool) -> None:
        self.rule.override(number, ended)

    def promote_next(self, closed: bool = False) -> int | None:
        return self.rule.promote_next(closed)


class Never:
    """`none`: stops nothing."""

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        return Ruling.CONTINUE

    def explain(self, number: int) -> str | None:
        return None

    def remove(self, number: int) -> None:
        pass

    def override(self, number: int, ended: bool) -> None:
        pass

    def promote_next(self, closed: bool = False) -> int | None:
        return None
