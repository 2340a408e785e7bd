"""What is left to do for trials that have ended: score the best one's test sets, remove what only training needs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from model.weights.ended_run import keep_last_weights
from model.weights.object_store import StoreError
from study.evidence.reserve import has_room_for_tests
from study.execution.kept_weights import has_removed_weights, remove_surplus_weights
from study.ledger.best import find_best
from study.ledger.ledger import Ledger


def find_unscored(ledger: Ledger) -> int | None:
    """The best trial, where its test sets are to be scored and are not yet, and the budget has room for it."""
    if ledger.study.score_tests != "best" or not has_room_for_tests(ledger.study, ledger.trials):
        return None
    best = find_best(ledger.trials.values(), ledger.study.objective)
    if best is None or best.has_tests or has_removed_weights(ledger, best.number):
        return None
    return best.number


def tidy_trial(ledger: Ledger, number: int) -> None:
    """Keep what is needed of a trial that has ended, and of those that are behind now because it has."""
    tidy_folder(ledger.trial_folder(number))
    remove_surplus_weights(ledger)


def tidy_folder(folder: Path) -> None:
    """Keep the weights of a trial that has ended, without what only training needs."""
    with contextlib.suppress(OSError, StoreError):  # it takes more room then, and nothing is lost
        keep_last_weights(folder)
