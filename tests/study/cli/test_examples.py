"""The examples in the help: every command has one, and every one is a command line that would be accepted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from study.cli.main import app

ROOT: Any = typer.main.get_command(app)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of commands below `group`, itself included."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = dict(commands(ROOT))


def examples_of(command: Any) -> list[list[str]]:
    lines = (command.epilog or "").splitlines()
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


def parse(command: Any, name: str, arguments: list[str]) -> list[str]:
    """The names of the commands that the arguments choose; an error where an argument or option does not exist."""
    context = command.make_context(name, list(arguments))
    if not hasattr(command, "commands"):
        return []
    chosen, subcommand, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return [chosen, *parse(subcommand, chosen, rest)]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_commands_help_has_an_example_of_it_that_would_be_accepted(path: tuple[str, ...]) -> None:
    examples = examples_of(ALL[path])
    assert examples
    for program, *arguments in examples:
        assert program == "decred-study"
        assert tuple(parse(ROOT, program, arguments))[: len(path)] == path


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_an_example_is_shown_on_a_line_of_its_own(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "100"}).output.splitlines()
    for example in examples_of(ALL[path]):
        assert f"$ {shlex.join(example)}" in [line.strip() for line in shown]


def test_an_option_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --trails"):
        parse(ROOT, "decred-study", ["run", "study.yaml", "--trails", "3"])
    with pytest.raises(Exception, match="No such command 'runn'"):
        parse(ROOT, "decred-study", ["runn", "study.yaml"])
