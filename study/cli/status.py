"""The commands `status`, for people and for scripts, and `notify`, which tries a study's notifications."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from model.errors import UserError
from study.cli.arguments import AnyStudy, On, find_mounted, open_ledger, read_name, run_where_it_is

LINES_AROUND = 16  # of a terminal, for what stands around the table
FEWEST_ROWS = 20  # on a terminal, however small
MOST_ROWS = 500  # elsewhere: to lay out thousands takes seconds, and programs read --json


def status(
    study: AnyStudy,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object: the study, its trials, nodes that are excluded")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="show it again and again, until no process runs it")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks of --watch")] = 2.0,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="number, state, epoch, a metric or a searched quantity; the lowest value first"
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="only so many trials: the first ones, or the best")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="all trials: also more than a terminal has room for, or 500 elsewhere")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="end with a code for the study's state")] = False,
    on: On = None,
) -> None:
    """Show the trials of a study, running or ended.

    With --exit-code: 0 where all trials have ended, 1 where none of them is complete, 3 while a process runs the study,
    4 where it was stopped and can be continued. Wrong input is 2, as for every command.
    """
    from study.display.board import make_console
    from study.display.rows import Rows
    from study.display.status import print_status
    from study.display.status_json import make_status
    from study.display.study_state import EXIT_CODES, find_state

    _check(as_json, watch, on, study)
    words = ["--json"] * as_json + ["--all"] * everything + ["--exit-code"] * exit_code
    words += ["--sort", sort] if sort is not None else []
    words += ["--top", str(top)] if top is not None else []
    found = run_where_it_is(on, study, ["status", "STUDY", *words])
    if found is None:
        return
    ledger, console = open_ledger(found), make_console()
    room = max(FEWEST_ROWS, console.height - LINES_AROUND) if console.is_terminal else MOST_ROWS
    rows = Rows(sort, top, None if everything else room)
    if as_json:
        typer.echo(json.dumps(make_status(ledger, Rows(sort, top)), ensure_ascii=False))
    elif watch:
        from study.display.watch import watch as follow

        follow(ledger, found, console, rows, every)
    else:
        print_status(ledger, found, console, rows)
    if exit_code:
        raise typer.Exit(EXIT_CODES[find_state(ledger)[0]])


def _check(as_json: bool, watch: bool, on: str | None, study: Path) -> None:
    if as_json and watch:
        raise UserError("status was given --json and --watch, but takes one of them; call it again for a new object")
    if watch and on is not None and find_mounted(on, study) is None:
        raise UserError(
            f"status was given --watch for a study on '{on}', whose storage is not mounted here; follow it with "
            f"`decred-study attach {read_name(study)} --on {on}`"
        )


def notify(study: AnyStudy, on: On = None) -> None:
    """Send a message to every receiver that a study file names under `notify`, and say what became of it."""
    from study.config.places import study_folder
    from study.ledger.ledger import read_any_study
    from study.notifications.notifier import send_trial_message

    found = run_where_it_is(on, study, ["notify", "STUDY"])
    if found is None:
        return
    study_file = read_any_study(found)
    if study_file.notify is None:
        raise UserError(f"{found} has no key 'notify'; give it a command, a webhook or a mail address")
    outcomes = send_trial_message(study_file, study_folder(study_file))
    for receiver, fault in outcomes.items():
        typer.echo(f"{receiver}: {'has taken the message' if fault is None else f'failed, {fault}'}")
    if any(fault is not None for fault in outcomes.values()):
        raise typer.Exit(1)
