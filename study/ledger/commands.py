"""Commands to a study that runs, as files in its folder: anybody who sees the folder can give one.

control/ID.json            a command: who gave it when, what, of which trial, with what value; ids sort by time
control/answers/ID.json    what became of it: done or refused, and one line

Each is written beside its place and then renamed, so that no half of one is ever read, on NFS neither. Whoever runs the
study looks for new ones, carries them out in the order of their names, records each as an event with its id, answers,
and removes the file. A command that comes again, because the driver was killed before it answered, has been recorded
under its id and is not carried out twice.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.strict import replace_file
from study.ledger.lease import unwritable_folder_error

CONTROL, ANSWERS = "control", "answers"
KEPT_SECONDS = 86_400.0  # an answer that nobody has read
_MOST_BYTES = 1_000_000  # of a command; a recipe has some thousands


@dataclass(frozen=True)
class Command:
    """What a person wants; `number` is a trial's. `time` is in Unix seconds, by the clock where it was given."""

    id: str
    time: float
    who: str
    command: str
    number: int | None = None
    value: str | None = None


@dataclass(frozen=True)
class CommandAnswer:
    """What became of a command, in one line."""

    is_done: bool
    line: str


def make_command(command: str, number: int | None = None, value: str | None = None, who: str | None = None) -> Command:
    """A command, by default of this user, with an id of its own that sorts by the time."""
    now = time.time_ns()
    id_, seconds = f"{now:020d}-{uuid.uuid4().hex[:12]}", round(now / 1e9, 3)
    return Command(id_, seconds, who or describe_user(), command, number, value)


def describe_user() -> str:
    """Who gives a command, and on which machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container, where its number has no name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def write_command(folder: Path, command: Command) -> None:
    """Put a command into the control folder of a study's folder. A UserError where that cannot be written."""
    try:
        replace_file(folder / CONTROL / f"{command.id}.json", json.dumps(asdict(command)) + "\n")
    except OSError as error:
        raise unwritable_folder_error(folder, error) from None


def list_commands(folder: Path) -> list[str]:
    """The ids of the commands that wait, in the order in which they are carried out."""
    try:
        names = os.listdir(folder / CONTROL)
    except OSError:  # no command was ever given; or the storage is away, and the next look finds it
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))


def read_command(folder: Path, id_: str) -> Command | None:
    """The command with this id; None where its file holds none. An OSError where it cannot be read."""
    path = folder / CONTROL / f"{id_}.json"
    if path.stat().st_size > _MOST_BYTES:
        return None
    raw = path.read_bytes()
    try:
        content: Any = json.loads(raw)
        number, value = content.get("number"), content.get("value")
        fields = str(content["who"]), str(content["command"])
        return Command(
            id_,
            float(content["time"]),
            *fields,
            None if number is None else int(number),
            None if value is None else str(value),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_answer(folder: Path, id_: str, answer: CommandAnswer) -> None:
    """Answer a command, and take it out of the folder. An OSError where the disk is full."""
    replace_file(folder / CONTROL / ANSWERS / f"{id_}.json", json.dumps(asdict(answer)) + "\n")
    (folder / CONTROL / f"{id_}.json").unlink(missing_ok=True)


def take_answer(folder: Path, id_: str) -> CommandAnswer | None:
    """The answer to a command, which is then removed; None as long as there is none."""
    path = folder / CONTROL / ANSWERS / f"{id_}.json"
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):
        path.unlink()
    return CommandAnswer(bool(content["is_done"]), str(content["line"]))


def remove_old_answers(folder: Path) -> None:
    """Remove answers that nobody has read for a day."""
    with contextlib.suppress(OSError):
        for path in (folder / CONTROL / ANSWERS).glob("*.json"):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()
