"""Where a study stands, in one word and as an exit code for scripts, and how long it will take yet."""

from __future__ import annotations

import time
from enum import StrEnum
from statistics import fmean

from study.ledger.lease import find_living_holder
from study.ledger.lease_file import Holder
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials

DIED = "no process runs it, the last one died"


class StudyState(StrEnum):
    """Of a study as a whole."""

    WAITING = "waiting"  # it has a folder, and no session has begun
    RUNNING = "running"  # a process runs it now
    COMPLETE = "complete"  # all was done, and some trial is complete
    FAILED = "failed"  # all was done, and no trial is complete
    INTERRUPTED = "interrupted"  # it was stopped, or its process died; it can be continued


EXIT_CODES = {
    StudyState.COMPLETE: 0,
    StudyState.FAILED: 1,
    StudyState.RUNNING: 3,
    StudyState.INTERRUPTED: 4,
    StudyState.WAITING: 4,
}


def find_state(ledger: Ledger) -> tuple[StudyState, str | None, Holder | None]:
    """The state of a study, the reason of an interruption where it is known, and the process that runs it now."""
    holder = find_living_holder(ledger.folder)
    trials = ledger.trials
    if holder is not None:
        return StudyState.RUNNING, None, holder
    if trials.study_state is TrialState.WAITING:
        return StudyState.WAITING, None, None
    if trials.study_state is TrialState.RUNNING:
        return StudyState.INTERRUPTED, DIED, None
    if trials.study_state is TrialState.INTERRUPTED:
        return StudyState.INTERRUPTED, trials.stopped, None
    if any(not record.state.final for record in trials.values()):
        return StudyState.INTERRUPTED, "a trial was reopened after its end", None
    state = StudyState.COMPLETE if trials.study_state is TrialState.COMPLETE else StudyState.FAILED
    return state, None, None


def estimate_seconds_left(trials: Trials, now: float | None = None) -> float | None:
    """Of the session that runs, from its trials so far; None before the first epoch. `now` is in Unix seconds."""
    session, now = trials.session, time.time() if now is None else now
    if session is None or trials.study_state is not TrialState.RUNNING:
        return None
    durations = [_seconds(record) for record in trials.values() if _ended_since(record, session.time)]
    running = [trials[number] for number in trials.running]
    paces = [_find_pace(record, now) for record in running if record.epoch]
    if not durations and not paces:
        return None
    mean = fmean(durations) if durations else max(paces)
    ended = sum(record.state.final and (record.ended or 0.0) >= session.time for record in trials.values())
    spent = sum(min(max(0.0, now - (record.started or now)), mean) for record in running)
    return max(0.0, (session.trials - ended) * mean - spent) / max(1, session.concurrency, len(running))


def _ended_since(record: TrialRecord, time: float) -> bool:
    """Whether it ran in this session alone, from its start to its end."""
    return record.state.final and record.ended is not None and (record.started or 0.0) >= time


def _seconds(record: TrialRecord) -> float:
    return max(0.0, (record.ended or 0.0) - (record.started or 0.0))


def _find_pace(record: TrialRecord, now: float) -> float:
    """Seconds from start to end, at the pace of the epochs so far."""
    return max(0.0, now - (record.started or now)) / record.epoch * (record.planned_epochs or record.epoch)
