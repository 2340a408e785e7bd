"""Which parts of a study its budget has ended: its search, and the confirmation of its finalists."""

from __future__ import annotations

from study.config.budget import dump_budget
from study.config.study_file import StudyFile
from study.ledger.budget_events import CONFIRMATION, SEARCH, StudyPart
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials


def is_closed(trials: Trials, study: StudyFile, part: StudyPart) -> bool:
    """Whether the budget, as the study file has it now, has ended a part of the study."""
    reached = trials.budget_reached.get(part)
    return reached is not None and study.budget is not None and reached.budget == dump_budget(study.budget)


def part_of(record: TrialRecord) -> StudyPart:
    """The part of the study that a trial belongs to."""
    return SEARCH if record.confirms is None else CONFIRMATION


def list_open(trials: Trials, study: StudyFile) -> list[TrialRecord]:
    """The trials that have not ended and may continue: those that the budget stopped continue with another budget."""
    left = [record for record in trials.values() if not record.state.final]
    return [record for record in left if not is_closed(trials, study, part_of(record))]
