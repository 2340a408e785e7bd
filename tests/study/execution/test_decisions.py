"""Every kind of failure, and what follows from it, in one table."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from ray.exceptions import OutOfDiskError

from model.errors import SplitFurtherError, UserError
from model.strict import write_atomically
from study.config.run_settings import FailureSettings
from study.execution.decisions import Action, Decision, decide, is_same_error
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind, is_disk_full
from study.workers.storage import StorageError
from study.workers.worker import classify_error

SETTINGS = FailureSettings(retries=2, same_error_stops=3)
RETRIES, SAME = "failures.retries 2", "failures.same_error_stops 3"

# kind, retries before, same errors in a row before -> action, state, count, setting
TABLE = [
    (FailureKind.LOST, 0, 0, Action.RETRY, TrialState.INTERRUPTED, 1, RETRIES),
    (FailureKind.LOST, 1, 9, Action.RETRY, TrialState.INTERRUPTED, 2, RETRIES),
    (FailureKind.LOST, 2, 0, Action.END, TrialState.FAILED, 3, ""),
    (FailureKind.LOST, 2, 2, Action.STOP, TrialState.FAILED, 3, SAME),
    (FailureKind.PREEMPTED, 0, 0, Action.MOVE, TrialState.INTERRUPTED, 0, ""),
    (FailureKind.PREEMPTED, 2, 9, Action.MOVE, TrialState.INTERRUPTED, 2, ""),
    (FailureKind.START, 0, 0, Action.RETRY, TrialState.INTERRUPTED, 1, RETRIES),
    (FailureKind.START, 2, 1, Action.END, TrialState.FAILED, 3, ""),
    (FailureKind.SPLIT, 0, 0, Action.RETRY, TrialState.INTERRUPTED, 0, ""),
    (FailureKind.SPLIT, 2, 9, Action.RETRY, TrialState.INTERRUPTED, 2, ""),
    (FailureKind.OUT_OF_MEMORY, 0, 9, Action.END, TrialState.INFEASIBLE, 1, ""),
    (FailureKind.IMPOSSIBLE, 0, 0, Action.END, TrialState.INFEASIBLE, 1, ""),
    (FailureKind.IMPOSSIBLE, 0, 2, Action.STOP, TrialState.INFEASIBLE, 3, SAME),
    (FailureKind.NON_FINITE, 0, 9, Action.END, TrialState.FAILED, 1, ""),
    (FailureKind.ERROR, 0, 0, Action.END, TrialState.FAILED, 1, ""),
    (FailureKind.ERROR, 0, 1, Action.END, TrialState.FAILED, 1, ""),
    (FailureKind.ERROR, 0, 2, Action.STOP, TrialState.FAILED, 3, SAME),
    (FailureKind.DISK_FULL, 0, 0, Action.STOP, TrialState.INTERRUPTED, 1, ""),
    (FailureKind.STORAGE, 0, 0, Action.STOP, TrialState.INTERRUPTED, 1, ""),
    (FailureKind.OBJECT_STORE, 0, 0, Action.STOP, TrialState.INTERRUPTED, 1, ""),
]


@pytest.mark.parametrize(("kind", "retries", "same", "action", "state", "count", "setting"), TABLE)
def test_what_follows_from_a_failure_is_as_in_the_table(
    kind: FailureKind, retries: int, same: int, action: Action, state: TrialState, count: int, setting: str
) -> None:
    decision = decide(Failure(kind, "why"), retries, same, SETTINGS)
    assert (decision.action, decision.state, decision.count, decision.setting) == (action, state, count, setting)
    assert decision.reason.startswith("why")


def test_the_table_has_every_kind() -> None:
    assert {row[0] for row in TABLE} == set(FailureKind)


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize(("retries", "same"), [(0, 0), (2, 9)])
def test_what_may_be_a_nodes_fault_is_tried_elsewhere_and_counts_for_nothing(
    kind: FailureKind, retries: int, same: int
) -> None:
    decision = decide(Failure(kind, "why"), retries, same, SETTINGS, elsewhere=True)
    assert decision == Decision(Action.MOVE, TrialState.INTERRUPTED, "why", retries)


def test_without_retries_a_lost_trial_fails_with_the_setting_as_its_reason() -> None:
    settings = FailureSettings(retries=0)
    assert decide(Failure(FailureKind.LOST, "worker 1 died"), 0, 0, settings) == Decision(
        Action.END, TrialState.FAILED, "worker 1 died; tried 1 times, as failures.retries 0 allows"
    )


def test_errors_that_differ_in_numbers_alone_are_the_same() -> None:
    assert is_same_error("ValueError: size 31 at 0x7f3a", "ValueError: size 7 at 0x11")
    assert is_same_error("loss 1.5e-3 at step 7", "loss 2 at step 19")
    assert not is_same_error("ValueError: size 31", "KeyError: size 31")
    assert not is_same_error(None, None)


def test_a_full_disk_is_recognised_as_the_cause_of_another_error() -> None:
    error = RuntimeError("serialisation failed")
    error.__cause__ = OSError(errno.ENOSPC, "whatever the language")
    assert is_disk_full(error)
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert is_disk_full(OutOfDiskError("the object cannot be spilled"))
    assert not is_disk_full(OSError(errno.EACCES, "no"))


def test_a_user_error_of_a_full_disk_does_not_make_the_recipe_infeasible(small_disk: Path) -> None:
    with pytest.raises(UserError) as caught:
        write_atomically(small_disk / "file", b"y" * 400_000)
    assert is_disk_full(caught.value)
    assert classify_error(caught.value) is FailureKind.DISK_FULL
    assert classify_error(UserError("no training utterance is left")) is FailureKind.IMPOSSIBLE
    assert classify_error(StorageError("node one does not see it")) is FailureKind.STORAGE
    assert classify_error(SplitFurtherError("out of memory at epoch 1, step 2")) is FailureKind.SPLIT
