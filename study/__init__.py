"""What a trial and a study are; what users import is named here, and loaded when it is used first."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.api import OpenedStudy, open_study
    from study.ledger.records import TrialRecord, TrialState
    from study.runner import run_study

__all__ = ["OpenedStudy", "TrialRecord", "TrialState", "open_study", "run_study"]

_MODULES = {
    "OpenedStudy": "study.api",
    "TrialRecord": "study.ledger.records",
    "TrialState": "study.ledger.records",
    "open_study": "study.api",
    "run_study": "study.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'study' has no attribute '{name}'; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(_MODULES[name]), name)
