"""What a command to a study amounts to: an event to record and a line to answer, or one line why it is refused.

Nothing is done here; it depends on the study's records alone. So it is the same whether a driver runs the study or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile, with_trials
from study.execution.enqueuing import describe_differences, make_enqueued
from study.ledger.budget_events import SEARCH, StudyPart
from study.ledger.commands import Command
from study.ledger.events import ControlGiven
from study.ledger.ledger import Ledger
from study.ledger.open_parts import is_closed, part_of
from study.ledger.records import TrialRecord, TrialState
from study.ledger.steering import (
    DRAIN,
    ENQUEUE,
    NOTE,
    PAUSE,
    PROMOTE,
    RESUME,
    RETRY,
    SET,
    SETTINGS,
    STOP,
    TRIALS,
    USE,
    format_setting,
    parse_setting,
)
from study.ledger.trial_changes import can_reopen
from study.search.model_size import find_excess

LONGEST_NOTE = 1000  # characters


@dataclass(frozen=True)
class Order:
    """A command that is accepted: how it is recorded, and what its giver is answered."""

    event: ControlGiven
    line: str


def judge_command(command: Command, ledger: Ledger, is_running: bool) -> Order:
    """What a command amounts to; a UserError where it is refused. `is_running`: whether a driver has the study."""
    refuse_broken_text(command.command, command.value)
    judge = _OF_A_TRIAL.get(command.command) if command.number is not None else _OF_A_STUDY.get(command.command)
    if judge is None:
        raise UserError(
            f"this version knows no command '{command.command}'; give it with the version that runs the study"
        )
    return judge(command, ledger, is_running)


def refuse_broken_text(command: str, value: str | None) -> None:
    """A UserError where no file can hold a command's value: a byte that is not UTF-8 comes as half a surrogate pair."""
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:
        text = repr((value or "")[error.start])
        raise UserError(
            f"{command} is given {text} as character {error.start + 1}, which is no text; give it in UTF-8"
        ) from None


def _judge_stop(command: Command, ledger: Ledger, is_running: bool) -> Order:
    record = _find_open_trial(command, ledger)
    if record.number in ledger.trials.steering.stopped:
        raise UserError(f"trial {record.number:04d} is being stopped already; it ends at its next report")
    _refuse_if_scored(record)
    runs = is_running and record.state is TrialState.RUNNING
    when = f"ends at its next report, after epoch {record.epoch + 1}" if runs else "has ended, with its figures so far"
    return _order(command, f"trial {record.number:04d} {when}")


def _judge_trial_pause(command: Command, ledger: Ledger, is_running: bool) -> Order:
    record = _find_open_trial(command, ledger)
    if record.number in ledger.trials.steering.held:
        raise UserError(f"trial {record.number:04d} is paused already")
    _refuse_if_scored(record)
    if record.state is TrialState.WAITING:
        raise UserError(
            f"trial {record.number:04d} waits at a rung, and nothing of it runs; stop it, or leave it there"
        )
    runs = is_running and record.state is TrialState.RUNNING
    when = f"pauses at its next report, after epoch {record.epoch + 1}" if runs else "is paused"
    return _order(command, f"trial {record.number:04d} {when}, until it is resumed")


def _judge_trial_resume(command: Command, ledger: Ledger, is_running: bool) -> Order:
    record = _find_trial(command, ledger)
    if record.number not in ledger.trials.steering.held:
        raise UserError(f"trial {record.number:04d} is not paused by anybody, it is {record.state}")
    if record.state is TrialState.RUNNING and is_running:
        return _order(command, f"trial {record.number:04d} runs on")
    return _order(command, f"trial {record.number:04d} {_describe_return(record, ledger, is_running)}")


def _judge_retry(command: Command, ledger: Ledger, is_running: bool) -> Order:
    record = _find_trial(command, ledger)
    if not can_reopen(record):
        why = "is infeasible and makes no recipe" if record.started is None else f"is {record.state}"
        raise UserError(
            f"trial {record.number:04d} {why}; only one that failed, or that could not be trained, can be tried again"
        )
    return _order(command, f"trial {record.number:04d} {_describe_return(record, ledger, is_running)}")


def _judge_promote(command: Command, ledger: Ledger, is_running: bool) -> Order:
    record = _find_open_trial(command, ledger)
    if record.number in ledger.trials.steering.promoted:
        raise UserError(f"trial {record.number:04d} is promoted already")
    runs = record.state is TrialState.RUNNING and is_running
    when = "runs on" if runs else _describe_return(record, ledger, is_running)
    return _order(command, f"trial {record.number:04d} {when}, whatever the stopping rule says")


def _judge_note(command: Command, ledger: Ledger, is_running: bool) -> Order:
    record, text = _find_trial(command, ledger), " ".join((command.value or "").split())
    if not 0 < len(text) <= LONGEST_NOTE:
        raise UserError(f"the note has {len(text)} characters, but must have 1 to {LONGEST_NOTE}")
    return _order(command, f"noted of trial {record.number:04d}", text)


def _judge_enqueue(command: Command, ledger: Ledger, is_running: bool) -> Order:
    recipe: Recipe = make_enqueued(command.value or "", ledger)
    if reason := find_excess(recipe, ledger.study.objective):
        raise UserError(f"the recipe is not enqueued: {reason}; enqueue a smaller model, or raise that limit")
    which = describe_differences(recipe, ledger.base_recipe) or "the base recipe"
    line = f"enqueued: {which}; it is tried next{_describe_when(is_running)}{_describe_budget(ledger, SEARCH)}"
    return _order(command, line, recipe.model_dump_json())


def _judge_pause(command: Command, ledger: Ledger, is_running: bool) -> Order:
    if ledger.trials.has_ended:
        raise UserError(f"study '{ledger.study.name}' has ended, so there is nothing to pause")
    if ledger.trials.steering.paused_by is not None:
        raise UserError(f"study '{ledger.study.name}' is paused already, by {ledger.trials.steering.paused_by}")
    running = [f"{number:04d}" for number in ledger.trials.running] if is_running else []
    those = f"; trials that run pause at their next report: {', '.join(running)}" if running else ""
    return _order(command, f"study '{ledger.study.name}' is paused, nothing starts until it is resumed{those}")


def _judge_resume(command: Command, ledger: Ledger, is_running: bool) -> Order:
    steering = ledger.trials.steering
    if not steering.starts_nothing:
        raise UserError(f"study '{ledger.study.name}' is not paused")
    what = "is resumed" if steering.drained_by is None else "goes on"
    return _order(command, f"study '{ledger.study.name}' {what}{_describe_when(is_running)}")


def _judge_drain(command: Command, ledger: Ledger, is_running: bool) -> Order:
    name = ledger.study.name
    if not is_running:
        raise UserError(f"study '{name}' does not run, so there is nothing to drain")
    if ledger.trials.steering.drained_by is not None:
        raise UserError(f"study '{name}' is being drained already, by {ledger.trials.steering.drained_by}")
    running = ", ".join(f"{number:04d}" for number in ledger.trials.running) or "none"
    return _order(command, f"study '{name}' stops once the trials that run have ended: {running}")


def _judge_set(command: Command, ledger: Ledger, is_running: bool) -> Order:
    text, study = command.value or "", ledger.study
    found = dict(parse_setting(text))
    if not found:
        raise UserError(f"'{text}' sets nothing; give {' or '.join(f'{name}=NUMBER' for name in SETTINGS)}")
    name, value = next(iter(found.items()))
    _check_setting(study, name, value)
    in_file = read_setting(study, name)
    was = format_setting(name, ledger.trials.steering.get(name, in_file))
    now = format_setting(name, value)
    return _order(command, f"{now} from now on, instead of {was}", now, in_file)


def _judge_use(command: Command, ledger: Ledger, is_running: bool) -> Order:
    names = [] if ledger.trials.has_ended else [event.node for event in ledger.trials.excluded]
    node = command.value or ""
    found = next((name for name in names if node in (name, *name.rstrip(")").split(" ("))), None)
    if found is None:
        known = f"it excludes {', '.join(names)}" if names else "it excludes none"
        raise UserError(f"study '{ledger.study.name}' excludes no node '{node}'; {known}")
    return _order(command, f"node {found} is used again{_describe_when(is_running)}", found)


def read_setting(study: StudyFile, name: str) -> int | None:
    """What the study file says of a setting that can be changed while it runs."""
    return study.trials if name == TRIALS else study.workers.concurrent_trials


def _check_setting(study: StudyFile, name: str, value: int | None) -> None:
    """A UserError where a study file could not have the setting."""
    if name == TRIALS:
        with_trials(study, value)
    elif value == 0:
        raise UserError(f"{name} is {value}, but must be 1 or more; `pause` has no trial start")


def _find_trial(command: Command, ledger: Ledger) -> TrialRecord:
    record = ledger.trials.get(command.number if command.number is not None else -1)
    if record is None:
        numbers = list(ledger.trials)
        known = f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
        raise UserError(f"study '{ledger.study.name}' has no trial {command.number}; {known}")
    return record


def _find_open_trial(command: Command, ledger: Ledger) -> TrialRecord:
    """A trial that has not ended."""
    record = _find_trial(command, ledger)
    if record.state.final:
        raise UserError(f"trial {record.number:04d} has ended, it is {record.state}")
    return record


def _refuse_if_scored(record: TrialRecord) -> None:
    """A UserError where a trial reports no more."""
    if record.state is TrialState.RUNNING and record.has_all_epochs:
        raise UserError(f"trial {record.number:04d} has trained all its epochs and is being scored; it ends by itself")


def _order(command: Command, line: str, value: str | None = None, before: int | None = None) -> Order:
    event = ControlGiven(
        who=command.who,
        command=command.command,
        number=command.number,
        value=value,
        id=command.id,
        before=None if before is None else str(before),
    )
    return Order(event, line)


def _describe_return(record: TrialRecord, ledger: Ledger, is_running: bool) -> str:
    """Where and when a trial continues."""
    place = f"after epoch {record.epoch}" if record.epoch else "from its start"
    return f"continues {place}{_describe_when(is_running)}{_describe_budget(ledger, part_of(record))}"


def _describe_budget(ledger: Ledger, part: StudyPart) -> str:
    """What nothing of a part starts without, where the budget has ended it."""
    is_over = is_closed(ledger.trials, ledger.study, part)
    return f", once the budget is raised: it has no room for more of the {part}" if is_over else ""


def _describe_when(is_running: bool) -> str:
    return "" if is_running else " when the study is continued"


_Judge = Callable[[Command, Ledger, bool], Order]
_OF_A_TRIAL: dict[str, _Judge] = {
    STOP: _judge_stop,
    PAUSE: _judge_trial_pause,
    RESUME: _judge_trial_resume,
    RETRY: _judge_retry,
    PROMOTE: _judge_promote,
    NOTE: _judge_note,
}
_OF_A_STUDY: dict[str, _Judge] = {
    ENQUEUE: _judge_enqueue,
    PAUSE: _judge_pause,
    RESUME: _judge_resume,
    DRAIN: _judge_drain,
    SET: _judge_set,
    USE: _judge_use,
}
