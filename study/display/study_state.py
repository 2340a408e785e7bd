"""Where a study stands, in one word and as an exit code for scripts, and how long it will take yet."""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import StrEnum
from statistics import fmean

from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.display.budget import find_limit
from study.ledger.events import SessionStarted
from study.ledger.lease import find_living_holder
from study.ledger.lease_file import Holder
from study.ledger.ledger import Ledger
from study.ledger.open_parts import list_open
from study.ledger.records import TrialRecord, TrialState
from study.ledger.spent import TrialUse
from study.ledger.steering import CONCURRENT_TRIALS
from study.ledger.trials import Trials
from study.search.trials_left import count_left

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
    if list_open(trials, ledger.study):  # those that the budget has stopped wait for a larger one
        return StudyState.INTERRUPTED, "a trial was reopened after its end", None
    state = StudyState.COMPLETE if trials.study_state is TrialState.COMPLETE else StudyState.FAILED
    return state, None, None


def find_time_of_use(trials: Trials, holder: Holder | None, now: float | None = None) -> float | None:
    """Until when the use of a study's budget is measured, in Unix seconds: now while `holder` runs it, else None, which
    is its last event."""
    session = trials.session
    if holder is None or session is None:
        return None
    if session.process is not None and holder.pid not in (0, session.process):
        return None  # a driver that still prepares: the last session is that of one that is gone, and so are its hours
    return time.time() if now is None else now


def estimate_seconds_left(study: StudyFile, base: Recipe, trials: Trials, now: float | None = None) -> float | None:
    """Of the session that runs, by the time that trials held their workers in all sessions, or until the budget is used
    up where that is sooner; None before the first epoch. `base` is the study's base recipe, `now` in Unix seconds."""
    session, now = trials.session, time.time() if now is None else now
    if session is None or trials.study_state is not TrialState.RUNNING:
        return None
    uses = trials.spent.trials
    ended = [record.number for record in trials.values() if _has_ended_since(record, session.time)]
    durations = [uses[number].seconds for number in ended if number in uses]
    unfinished = [(record, uses.get(record.number, TrialUse())) for record in list_open(trials, study)]
    mean = fmean(durations) if durations else _find_slowest_pace(unfinished)
    if mean is None:
        return None
    done = sum(min(_measure_done(record, use, now), mean) for record, use in unfinished)
    at_a_time = _count_at_a_time(study, trials, session)
    of_trials = max(0.0, count_left(study, base, trials) * mean - done) / at_a_time
    return min(of_trials, find_limit(study, trials, at_a_time, now))


def _has_ended_since(record: TrialRecord, time: float) -> bool:
    return record.state.final and (record.ended or 0.0) >= time


def _find_slowest_pace(unfinished: Iterable[tuple[TrialRecord, TrialUse]]) -> float | None:
    """Seconds that the slowest trial takes from start to end; None before a first epoch."""
    paces = [
        seconds * (record.planned_epochs or record.epoch)
        for record, use in unfinished
        if (seconds := _find_epoch_seconds(use)) is not None
    ]
    return max(paces, default=None)


def _find_epoch_seconds(use: TrialUse) -> float | None:
    """What an epoch of a trial takes; None before its first report."""
    if use.reports:
        return use.reporting / use.reports
    # A first report that does not say what its epoch took: the start of the workers counts with it.
    return use.starting / use.starts if use.starts else None


def _measure_done(record: TrialRecord, use: TrialUse, now: float) -> float:
    """Seconds of the training that need not be done again: epochs that were lost with their workers do not count."""
    since_report = 0.0 if use.since is None else max(0.0, now - use.latest)
    return record.epoch * (_find_epoch_seconds(use) or 0.0) + since_report


def _count_at_a_time(study: StudyFile, trials: Trials, session: SessionStarted) -> int:
    """How many trials run at the same time: as many as people or the study file allow, where machines have room."""
    in_file = study.workers.concurrent_trials
    most, room = trials.steering.get(CONCURRENT_TRIALS, in_file), max(1, session.concurrency, len(trials.running))
    if most is None:
        return room
    # Where the file's limit was reached, nobody has found out how many more there is room for.
    return max(1, most if session.concurrency == in_file else min(most, room))
