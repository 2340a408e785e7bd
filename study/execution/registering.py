"""Registering a study's best model when the study has ended, where its file asks for that."""

from __future__ import annotations

from collections.abc import Callable

from model.errors import UserError
from study.ledger.best import find_best
from study.ledger.ledger import Ledger


def register_best(ledger: Ledger, announce: Callable[[str], None]) -> None:
    """Make the best model a version of the registered model that the study file names, and announce it.

    Nothing happens before the study's end. A failure is announced with the command that tries again: the study itself
    is complete. A model that is registered already is left as it is.
    """
    name, records = ledger.study.register_as, ledger.trials.values()
    if name is None or not ledger.trials.has_ended or find_best(records, ledger.study.objective) is None:
        return
    from study.execution.model_export import register_trial  # torch takes seconds to import

    try:
        announce(register_trial(ledger, None, name, None))
    except UserError as error:
        announce(f"{error}; register it later with: decred-study export {ledger.folder} --register {name}")
