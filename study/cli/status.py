"""The commands `status`, for people and for scripts, and `notify`, which tries a study's notifications."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import UserError
from model.runtime.garbage import no_collection
from study.cli.arguments import AnyStudy, On, find_mounted, open_ledger, read_name, run_where_it_is

if TYPE_CHECKING:
    from study.display.rows import Rows
    from study.ledger.ledger import Ledger

LINES_AROUND = 16  # of a terminal, for what stands around the table
FEWEST_ROWS = 20  # on a terminal, however small
MOST_ROWS = 200  # elsewhere: to lay out thousands takes seconds, and programs read --json


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
        bool, typer.Option("--all", help="all trials: also more than a terminal has room for, or 200 elsewhere")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="end with a code for the study's state")] = False,
    on: On = None,
) -> None:
    """Show the trials of a study, running or ended.

    With --exit-code: 0 where all trials have ended, 1 where none of them is complete, 3 while a process runs the study,
    4 where it was stopped and can be continued. Wrong input is 2, as for every command.
    """
    _check(as_json, watch, on, study)
    words = ["--json"] * as_json + ["--all"] * everything + ["--exit-code"] * exit_code
    words += ["--sort", sort] if sort is not None else []
    words += ["--top", str(top)] if top is not None else []
    found = run_where_it_is(on, study, ["status", "STUDY", *words])
    if found is None:
        return
    # There is no garbage to speak of in the second that it takes, and the search for it takes a tenth.
    with contextlib.nullcontext() if watch else no_collection():
        from study.display.rows import Rows
        from study.display.study_state import EXIT_CODES, find_state

        ledger, rows = open_ledger(found), Rows(sort, top)
        if as_json:
            _print_json(ledger, rows)
        else:
            _print(ledger, found, rows, everything, every if watch else None)
        if exit_code:
            raise typer.Exit(EXIT_CODES[find_state(ledger)[0]])


def _print_json(ledger: Ledger, rows: Rows) -> None:
    from pydantic_core import to_json  # several times faster than Python's own

    from study.display.status_json import make_status

    typer.echo(to_json(make_status(ledger, rows)).decode())


def _print(ledger: Ledger, study: Path, rows: Rows, everything: bool, every: float | None) -> None:
    """For people; again and again where `every` says how many seconds apart."""
    # NumPy's threads, one a core, take a fifth of a second of processor time to start, and rank trials no faster.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from study.display.board import make_console
    from study.display.status import print_status

    console = make_console()
    room = max(FEWEST_ROWS, console.height - LINES_AROUND) if console.is_terminal else MOST_ROWS
    rows = replace(rows, room=None if everything else room)
    if every is None:
        print_status(ledger, study, console, rows)
    else:
        from study.display.watch import watch

        watch(ledger, study, console, rows, every)


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
