"""What is left to do for trials that have ended: score the best one's test sets, remove what only training needs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from study.ledger.best import find_best
from study.ledger.ledger import Ledger


def find_unscored(ledger: Ledger) -> int | None:
    """The best trial, where its test sets are to be scored and are not yet."""
    if ledger.study.score_tests != "best":
        return None
    best = find_best(ledger.trials.values(), ledger.study.objective)
    return best.number if best is not None and not best.has_tests else None


def tidy_folder(folder: Path) -> None:
    """Keep the weights of a trial that has ended, without what only training needs."""
    from model.weights.ended_run import keep_last_weights  # torch takes seconds to import
    from model.weights.object_store import StoreError

    with contextlib.suppress(OSError, StoreError):  # it takes more room then, and nothing is lost
        keep_last_weights(folder)
