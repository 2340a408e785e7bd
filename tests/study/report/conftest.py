"""Reports of a study that was never run."""

from __future__ import annotations

from pathlib import Path

import pytest
from reported_study import write_study

from study.ledger.ledger import Ledger
from study.report.content import make_report
from study.report.value import Report


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A study of 20 trials in every state that a trial ends in, with confirmed finalists."""
    folder: Path = tmp_path_factory.mktemp("reported") / "planted"
    return write_study(folder, 20)


@pytest.fixture(scope="session")
def report(ledger: Ledger) -> Report:
    return make_report(ledger)
