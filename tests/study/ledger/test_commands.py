"""Commands and answers are files: whole or not there, in the order in which they were given."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from model.errors import UserError
from study.ledger.commands import (
    KEPT_SECONDS,
    CommandAnswer,
    list_commands,
    make_command,
    read_command,
    remove_old_answers,
    take_answer,
    write_answer,
    write_command,
)


def test_commands_are_listed_in_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    assert list_commands(tmp_path) == []
    given = [make_command("note", number, "ü") for number in range(5)]
    for command in reversed(given):
        write_command(tmp_path, command)
    assert list_commands(tmp_path) == [command.id for command in given]
    assert [read_command(tmp_path, command.id) for command in given] == given


def test_an_answer_takes_the_command_out_and_is_read_once(tmp_path: Path) -> None:
    command, answer = make_command("pause"), CommandAnswer(True, "the study is paused")
    write_command(tmp_path, command)
    assert take_answer(tmp_path, command.id) is None
    write_answer(tmp_path, command.id, answer)
    assert list_commands(tmp_path) == []
    assert take_answer(tmp_path, command.id) == answer
    assert take_answer(tmp_path, command.id) is None


def test_what_is_still_being_written_and_other_files_are_no_commands(tmp_path: Path) -> None:
    control = tmp_path / "control"
    control.mkdir()
    for name in (".1-a.json.77", ".1-a.json", "notes.txt"):
        (control / name).write_text("{")
    (control / "answers").mkdir()
    assert list_commands(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"who": "ada"}', '{"who": "a", "command": "stop", "time": 1, "number": "x"}']
)
def test_a_file_that_holds_no_command_is_read_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "1.json").write_text(content)
    assert read_command(tmp_path, "1") is None


def test_a_command_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    write_command(tmp_path, command := make_command("note", 0, "x" * 2_000_000))
    assert read_command(tmp_path, command.id) is None


def test_a_field_that_a_newer_version_added_is_ignored(tmp_path: Path) -> None:
    write_command(tmp_path, command := make_command("stop", 3))
    path = tmp_path / "control" / f"{command.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"urgent": True}))
    assert read_command(tmp_path, command.id) == command


def test_answers_that_nobody_reads_are_removed_after_a_day(tmp_path: Path) -> None:
    for name in ("1-old", "2-new"):
        write_answer(tmp_path, name, CommandAnswer(True, "done"))
    old = tmp_path / "control" / "answers" / "1-old.json"
    os.utime(old, times=(time.time() - KEPT_SECONDS - 60,) * 2)
    remove_old_answers(tmp_path)
    assert [path.stem for path in old.parent.iterdir()] == ["2-new"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("a file")
    with pytest.raises(UserError, match=r"^study folder .* cannot be written \(Not a directory\)"):
        write_command(tmp_path, make_command("pause"))


def test_a_user_without_a_name_as_in_a_container_is_named_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert make_command("pause").who == f"user 54321@{socket.gethostname()}"
