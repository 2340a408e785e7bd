"""A command that fails for whatever reason costs its giver an answer, and the study nothing."""

from __future__ import annotations

import errno

import pytest
from open_session import OpenSession, give, start

from study.execution.enqueuing import describe_recipe
from study.ledger.commands import list_commands, make_command, take_answer, write_command

NO_TEXT = b"caf\xe9".decode(errors="surrogateescape")  # as a command line has an argument that is not UTF-8
# No file can have a name of this length, and an OSError says so where one looks for it, as of a folder that is closed.
UNFINDABLE = describe_recipe([f"init_from=/{'x' * 300}"])


@pytest.mark.parametrize(
    ("command", "number", "value", "expected"),
    [
        ("enqueue", None, UNFINDABLE, "enqueue fails ([Errno 36] File name too long: "),
        ("enqueue", None, "no JSON", "enqueue fails (Expecting value: line 1 column 1 (char 0)); correct that"),
        ("note", 0, NO_TEXT, "note is given '\\udce9' as character 4, which is no text; give it in UTF-8"),
    ],
)
def test_a_command_that_fails_with_any_error_is_refused_in_one_line_and_the_session_goes_on(
    command: str, number: int | None, value: str, expected: str, running: OpenSession
) -> None:
    start(running, 1)
    answer = give(running, command, number, value)
    assert answer.line.startswith(expected)
    assert "\n" not in answer.line
    assert not answer.is_done
    assert list_commands(running.ledger.folder) == []
    assert running.lines == []
    assert give(running, "note", 0, "loss rises").is_done
    assert start(running) == 1


def test_a_giver_whose_name_is_no_text_is_refused_and_the_session_goes_on(running: OpenSession) -> None:
    start(running, 1)
    given = make_command("stop", 0, None, NO_TEXT)
    write_command(running.ledger.folder, given)
    running.session.look_at_commands()
    answer = take_answer(running.ledger.folder, given.id)
    assert answer is not None
    assert not answer.is_done
    assert running.ledger.trials.steering.stopped == {}
    assert list_commands(running.ledger.folder) == []


def test_a_command_that_a_full_disk_cannot_record_stops_the_session_and_waits_for_the_next_one(
    running: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(running, 1)

    def refuse(event: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running.ledger.log, "append", refuse)
    with pytest.raises(OSError, match="No space left"):
        give(running, "note", 0, "loss rises")
    (id_,) = list_commands(running.ledger.folder)
    assert take_answer(running.ledger.folder, id_) is None
