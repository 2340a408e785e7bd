"""What a person changes of a study between two sessions: a trial that failed is tried again, a node is used again."""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Callable, Iterator

from model.errors import UserError
from study.ledger.events import ControlGiven, StudyInterrupted
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.ledger.trials import RETRY, USE, can_reopen


def reopen_trial(ledger: Ledger, number: int, print_line: Callable[[str], object]) -> TrialRecord:
    """Reopen a trial, which continues from its last checkpoint with the next session; its new record.

    Raises a UserError where there is no such trial, where it is in another state, or where a driver has the study: that
    one would not see it.
    """
    with _hold(ledger, print_line) as ledger:
        record = ledger.trials.get(number)
        if record is None:
            raise UserError(f"study '{ledger.study.name}' has no trial {number}; {_describe_trials(ledger)}")
        if not can_reopen(record):
            why = "is infeasible and makes no recipe" if record.started is None else f"is {record.state}"
            raise UserError(
                f"trial {number:04d} {why}; only one that failed, or that could not be trained, can be tried again"
            )
        ledger.append(ControlGiven(who=_describe_user(), command=RETRY, number=number))
        _interrupt(ledger, f"trial {number:04d} was reopened")
    return ledger.trials[number]


def use_node(ledger: Ledger, node: str, print_line: Callable[[str], object]) -> str:
    """Have the next session place trials on a node that was excluded, given by its host, its address or both; both.

    Raises a UserError where the study excludes no such node, or where a driver has the study.
    """
    with _hold(ledger, print_line) as ledger:
        names = [] if ledger.trials.has_ended else [event.node for event in ledger.trials.excluded]
        found = next((name for name in names if node in (name, *name.rstrip(")").split(" ("))), None)
        if found is None:
            known = f"it excludes {', '.join(names)}" if names else "it excludes none"
            raise UserError(f"study '{ledger.study.name}' excludes no node '{node}'; {known}")
        ledger.append(ControlGiven(who=_describe_user(), command=USE, value=found))
        _interrupt(ledger, f"node {found} is used again")
    return found


@contextlib.contextmanager
def _hold(ledger: Ledger, print_line: Callable[[str], object]) -> Iterator[Ledger]:
    """The ledger with all that its drivers wrote, while no other may open it."""
    with hold_lease(ledger.folder, print_line) as lease:
        ledger = Ledger.open(ledger.folder)
        ledger.check_ownership = lease.check
        yield ledger


def _interrupt(ledger: Ledger, reason: str) -> None:
    """Close what was opened by the event before."""
    fields = dict(zip(("best", "best_recipe_hash"), ledger.trials.best, strict=True)) if ledger.trials.best else {}
    ledger.append(StudyInterrupted(reason=reason, **fields))


def _describe_user() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _describe_trials(ledger: Ledger) -> str:
    numbers = list(ledger.trials)
    return f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
