"""What a stopping rule is asked, and what it may answer."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Verdict(Enum):
    """What happens to a trial after an epoch."""

    CONTINUE = "continue"
    PRUNE = "prune"  # it ends here
    PAUSE = "pause"  # it gives its workers back and waits until `promote_next` names it


class Rule(Protocol):
    """A stopping rule. It is asked once for every reported epoch, in the order of the reports; smaller is better.

    A verdict depends on nothing but what the study's records hold at that moment: an epoch that a trial reports again,
    after a resume, replaces the trial's first report of it and all that followed, as in the records. So a rule that is
    built from the records decides as the one that was there from the beginning.
    """

    def decide(self, number: int, epoch: int, value: float, *, baseline: bool, last: bool) -> Verdict:
        """What happens to trial `number`, whose objective is `value` after `epoch`.

        A `baseline` is never stopped, and neither is a trial after the `last` epoch of its recipe; others are compared
        with both.
        """

    def remove(self, number: int) -> None:
        """Forget a trial that failed: no other is compared with it any more."""

    def promote_next(self, closed: bool = False) -> int | None:
        """The paused trial that continues now; None where none may, or where the rule pauses none.

        `closed`: nothing runs, and no new trial will come.
        """
