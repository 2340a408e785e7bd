"""The examples in the help: every command has some, and all of them are valid command lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from study.cli.main import app

ROOT: Any = typer.main.get_command(app)


def list_commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of commands below `group`, itself included."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from list_commands(command, (*path, name))


ALL = dict(list_commands(ROOT))


def read_examples(command: Any) -> list[list[str]]:
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
def test_every_commands_help_has_valid_examples_of_it(path: tuple[str, ...]) -> None:
    examples = read_examples(ALL[path])
    assert examples
    for program, *arguments in examples:
        assert program == "decred-study"
        assert tuple(parse(ROOT, program, arguments))[: len(path)] == path


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_an_example_is_printed_on_a_line_of_its_own(path: tuple[str, ...]) -> None:
    printed = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "100"}).output.splitlines()
    for example in read_examples(ALL[path]):
        assert f"$ {shlex.join(example)}" in [line.strip() for line in printed]


def test_an_unknown_option_or_command_in_an_example_is_an_error() -> None:
    with pytest.raises(Exception, match="No such option: --trails"):
        parse(ROOT, "decred-study", ["run", "study.yaml", "--trails", "3"])
    with pytest.raises(Exception, match="No such command 'runn'"):
        parse(ROOT, "decred-study", ["runn", "study.yaml"])
