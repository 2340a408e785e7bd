"""Giving commands to a study, whether a driver runs it or not.

A command is put into the study's control folder. A driver that runs the study carries it out and answers; where none
does, this process takes the study's lease for a moment and records it, and the next session follows it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from model.errors import UserError
from study.config.study_file import StudyFile
from study.execution.command_desk import take_commands
from study.execution.orders import read_setting, refuse_broken_text
from study.ledger.commands import (
    Command,
    CommandAnswer,
    describe_user,
    list_commands,
    make_command,
    take_answer,
    write_command,
)
from study.ledger.events import ControlGiven, StudyEnded, StudyInterrupted
from study.ledger.lease import StudyRunningError, find_living_holder, hold_lease
from study.ledger.lease_file import find_last_heartbeat
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.ledger.steering import NOTE, RESUME, SET, TRIALS, format_setting, parse_setting
from study.search.trials_left import is_sampled

WAIT_SECONDS = 20.0  # for an answer; a driver looks every second, when it does not load something large
_LOOK_SECONDS = 0.1


def give_command(
    folder: Path,
    command: str,
    number: int | None = None,
    value: str | None = None,
    wait: float = WAIT_SECONDS,
    who: str | None = None,
) -> str:
    """Give a study a command and wait for the answer, for `wait` seconds where a driver has the study; what to print.

    `who` gives it, by default this user.

    A UserError where it is refused. One that is not answered in time stays, and is carried out later.
    """
    Ledger.open(folder)  # or the error that there is no study
    refuse_broken_text(command, value)
    given = make_command(command, number, value, who)
    write_command(folder, given)
    deadline = time.monotonic() + wait
    while (answer := take_answer(folder, given.id)) is None:
        if find_living_holder(folder) is None and _record_here(folder):
            continue
        if time.monotonic() >= deadline:
            return _describe_wait(given, wait)
        time.sleep(_LOOK_SECONDS)
    return _read(answer)


def record_between_sessions(ledger: Ledger) -> list[str]:
    """Record the commands that wait, with the lease of the study in hand; a line for each."""
    if not list_commands(ledger.folder):
        return []
    ended_as = _find_end(ledger)
    taken = take_commands(ledger, is_running=False)
    if taken:
        _close(ledger, [event for event, _ in taken], ended_as)
    return [line for _, line in taken]


def prepare_session(ledger: Ledger, study: StudyFile, resumes: bool) -> list[str]:
    """What a session does before it starts, with the lease in hand: it records the commands that wait, and decides
    between what people have set while the study ran and what its file says now. Lines to print.

    What was set stands as long as the file says what it said then; a file that says something else is newer. `resumes`
    ends a pause of the study, which otherwise goes on.
    """
    lines = record_between_sessions(ledger)
    events: list[ControlGiven] = []
    ended_as = _find_end(ledger)
    for name, setting in ledger.trials.steering.settings.items():
        in_file = read_setting(study, name)
        if in_file not in (setting.before, setting.value):
            text, before = format_setting(name, in_file), None if in_file is None else str(in_file)
            events.append(ControlGiven(who=describe_user(), command=SET, value=text, before=before))
        elif setting.value != in_file:
            text, before = format_setting(name, setting.value), format_setting(name, in_file)
            lines.append(f"{text}, as {setting.who} has set it, instead of the study file's {before}")
    if resumes and ledger.trials.steering.starts_nothing:
        events.append(ControlGiven(who=describe_user(), command=RESUME))
    for event in events:
        ledger.append(event)
    if events:
        _close(ledger, events, ended_as)
    if (who := ledger.trials.steering.paused_by) is not None:
        lines.append(f"the study is paused by {who}, and nothing starts until: decred-study resume {ledger.folder}")
    return lines


def _record_here(folder: Path) -> bool:
    """Record what waits, while no driver may open the study; whether that was possible."""
    try:
        with _hold(folder) as ledger:
            record_between_sessions(ledger)
    except StudyRunningError:  # it answers, or has ended when this is tried again
        return False
    return True


@contextlib.contextmanager
def _hold(folder: Path, print_line: Callable[[str], object] = print) -> Iterator[Ledger]:
    """The ledger with all that its drivers wrote, while no other may open it."""
    alive_until = find_last_heartbeat(folder)  # of a driver that was killed: one that ended took its lease away
    with hold_lease(folder, print_line, brief=True) as lease:
        ledger = Ledger.open(folder)
        ledger.check_ownership, ledger.alive_until = lease.check, alive_until
        yield ledger


def _find_end(ledger: Ledger) -> TrialState | None:
    """How the study has ended; None where it has not."""
    return ledger.trials.study_state if ledger.trials.has_ended else None


def _leaves_ended(event: ControlGiven, ledger: Ledger) -> bool:
    """Whether a command gives a study that has ended nothing more to do."""
    if event.command != SET:
        return event.command == NOTE
    sampled = sum(is_sampled(record) for record in ledger.trials.values())
    return all(name != TRIALS or (value or 0) <= sampled for name, value in parse_setting(event.value or ""))


def _close(ledger: Ledger, events: list[ControlGiven], ended_as: TrialState | None) -> None:
    """Close the session that recorded these; a study that had ended as `ended_as`, and has nothing more to do after
    them, has ended again."""
    best = ledger.trials.best
    fields = dict(zip(("best", "best_recipe_hash"), best, strict=True)) if best else {}
    if ended_as is not None and all(_leaves_ended(event, ledger) for event in events):
        ledger.append(StudyEnded(state=ended_as, **fields))
        return
    words = ", ".join(event.command + ("" if event.number is None else f" {event.number:04d}") for event in events)
    ledger.append(StudyInterrupted(reason=f"{words} between two sessions", **fields))


def _read(answer: CommandAnswer) -> str:
    if not answer.is_done:
        raise UserError(answer.line)
    return answer.line


def _describe_wait(command: Command, wait: float) -> str:
    waited = f"the study's driver has not answered for {wait:g} s" if wait else "the study's driver was given it"
    return f"{command.command} is written down as {command.id}: {waited}; it is carried out when that looks next"
