"""`trial STUDY N retry`: a trial that failed, or is infeasible, is tried again by the next session."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable

from model.errors import UserError
from study.ledger.events import ControlGiven, StudyInterrupted
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.ledger.trials import RETRY, can_reopen


def reopen_trial(ledger: Ledger, number: int, print_line: Callable[[str], object]) -> TrialRecord:
    """Reopen a trial, which continues from its last checkpoint with the next session; its new record.

    Raises a UserError where there is no such trial, where it is in another state, or where a driver has the study: that
    one would not see it.
    """
    with hold_lease(ledger.folder, print_line) as lease:
        ledger = Ledger.open(ledger.folder)  # again, since a driver may have written until now
        ledger.check_ownership = lease.check
        record = ledger.trials.get(number)
        if record is None:
            raise UserError(f"study '{ledger.study.name}' has no trial {number}; {_describe_trials(ledger)}")
        if not can_reopen(record):
            why = "is infeasible and makes no recipe" if record.started is None else f"is {record.state}"
            raise UserError(
                f"trial {number:04d} {why}; only one that failed, or that could not be trained, can be tried again"
            )
        ledger.append(ControlGiven(who=f"{getpass.getuser()}@{socket.gethostname()}", command=RETRY, number=number))
        fields = dict(zip(("best", "best_recipe_hash"), ledger.trials.best, strict=True)) if ledger.trials.best else {}
        ledger.append(StudyInterrupted(reason=f"trial {number:04d} was reopened", **fields))
    return ledger.trials[number]


def _describe_trials(ledger: Ledger) -> str:
    numbers = list(ledger.trials)
    return f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
