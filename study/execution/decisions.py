"""What follows when a trial fails: one pure function of the kind of failure and how often it occurred."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from study.config.run_settings import FailureSettings
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind

_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)


class Action(StrEnum):
    """What follows from a failure."""

    RETRY = "retry"  # the same trial continues from its checkpoint
    MOVE = "move"  # so it does, on another node
    END = "end"  # the trial ends, the study continues
    STOP = "stop"  # the study stops


@dataclass(frozen=True)
class Decision:
    """What follows, the trial's new state, and the count and the setting that decided it."""

    action: Action
    state: TrialState
    reason: str
    count: int = 1
    setting: str = ""


def decide(
    failure: Failure, retries: int, same_in_a_row: int, settings: FailureSettings, elsewhere: bool = False
) -> Decision:
    """What follows from a failure of a trial that was retried `retries` times since it last got further, when the
    `same_in_a_row` trials that ended last failed with the same error.

    `elsewhere`: it may be the fault of the node on which it failed, and another one has room for the trial. A trial
    that left a node which will be taken has not failed, and the move is not counted. Nor is a retry with batches in
    more parts: each has more than the one before, until a part is one utterance.

    A loss that is not finite and a model that is too large are properties of their recipes, and other recipes may work:
    they never stop a study.
    """
    kind, reason = failure.kind, failure.reason
    if elsewhere or kind is FailureKind.PREEMPTED:
        return Decision(Action.MOVE, TrialState.INTERRUPTED, reason, retries)
    if kind is FailureKind.SPLIT:
        return Decision(Action.RETRY, TrialState.INTERRUPTED, reason, retries)
    if kind in (FailureKind.LOST, FailureKind.START):
        setting = f"failures.retries {settings.retries}"
        if retries < settings.retries:
            return Decision(Action.RETRY, TrialState.INTERRUPTED, reason, retries + 1, setting)
        reason = f"{reason}; tried {retries + 1} times, as {setting} allows"
        return _end_or_stop(reason, same_in_a_row, settings, retries + 1)
    if kind is FailureKind.OUT_OF_MEMORY:
        return Decision(Action.END, TrialState.INFEASIBLE, reason)
    if kind is FailureKind.NON_FINITE:
        return Decision(Action.END, TrialState.FAILED, reason)
    if kind in (FailureKind.DISK_FULL, FailureKind.STORAGE, FailureKind.OBJECT_STORE):
        return Decision(Action.STOP, TrialState.INTERRUPTED, reason)
    state = TrialState.INFEASIBLE if kind is FailureKind.IMPOSSIBLE else TrialState.FAILED
    return _end_or_stop(reason, same_in_a_row, settings, state=state)


def _end_or_stop(
    reason: str, same_in_a_row: int, settings: FailureSettings, count: int = 1, state: TrialState = TrialState.FAILED
) -> Decision:
    if same_in_a_row + 1 < settings.same_error_stops:
        return Decision(Action.END, state, reason, count)
    setting = f"failures.same_error_stops {settings.same_error_stops}"
    return Decision(Action.STOP, state, reason, same_in_a_row + 1, setting)


def is_same_error(reason: str | None, other: str | None) -> bool:
    """Whether two reasons are the same error; their numbers may differ."""
    return reason is not None and other is not None and _NUMBERS.sub("#", reason) == _NUMBERS.sub("#", other)
