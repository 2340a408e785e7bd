"""What `decred-study run` prints when a study ends, and how to continue one that was stopped."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from model.errors import UserError
from study.config.places import PLACE_VARIABLE
from study.config.study_file import StudyFile
from study.display.budget import describe_budget
from study.display.front import describe_front
from study.display.references import print_references
from study.display.table import make_table
from study.display.verdict import print_verdict
from study.evidence.rank_correlation import describe_rungs
from study.evidence.stuck import describe_stuck
from study.execution.export import write_recipe
from study.ledger.best import describe_broken
from study.ledger.ledger import STUDY, Ledger
from study.ledger.records import TrialRecord, TrialState
from study.notifications.notifier import Notifier
from study.notifications.occasions import describe_stop
from study.report.writing import write_folder_files
from study.workers.failure import is_disk_full, is_place_unusable

BEST_RECIPE = "best-recipe.yaml"


@contextlib.contextmanager
def report_stop(folder: Path, command: str, console: Console) -> Iterator[None]:
    """Where the block, a session with all that closes it, is stopped, print how to continue it and leave the block."""
    try:
        yield
    except KeyboardInterrupt:
        done = f"what was done is in {shorten(folder)}" if (folder / STUDY).exists() else "nothing was run yet"
        print_line(console, f"stopped; {done}. Continue with: {command}")


@contextlib.contextmanager
def explain_unwritable(folder: Path, command: str) -> Iterator[None]:
    """Make an error in the block a UserError that says how to continue, where the disk is full, or the study's folder
    cannot be written or read for another reason."""
    try:
        yield
    except (OSError, UserError) as error:
        if is_disk_full(error):
            raise UserError(
                f"the disk that holds {shorten(folder)} is full; nothing that ended is lost. "
                f"Free space, then continue with: {command}"
            ) from None
        if isinstance(error, OSError) and (is_place_unusable(error) or _is_of(folder, error)):
            raise UserError(
                f"{shorten(folder)} cannot be used ({error.strerror}); nothing that ended is lost. "
                f"Make it readable and writable again, then continue with: {command}"
            ) from None
        raise


def _is_of(folder: Path, error: OSError) -> bool:
    """Whether an error is one of a file or folder in `folder`."""
    return isinstance(error.filename, str) and Path(error.filename).absolute().is_relative_to(folder.absolute())


def print_results(
    ledger: Ledger,
    study: StudyFile,
    best: TrialRecord | None,
    stopped: str | None,
    path: Path,
    command: str,
    console: Console,
) -> int:
    """Print the table of all trials and what the study shows, and write the best recipe and the report into its folder.

    `stopped` is why the study had to stop, and `command` continues it. The exit code: 0, or 1 where it had to stop or
    no trial is complete.
    """
    records = ledger.trials.values()
    write_folder_files(ledger, functools.partial(print_line, console))
    console.print(make_table(records, study))
    budget, broken = describe_budget(study, ledger.trials), describe_broken(records, study.objective)
    for line in (*describe_rungs(records, study), *describe_stuck(records), *broken, *budget):
        print_line(console, line)
    for line in describe_front(records, study.objective, path):
        print_line(console, line)
    for record in records:
        if record.state in (TrialState.FAILED, TrialState.INFEASIBLE):
            print_line(console, f"trial {record.number:04d} {record.state}: {record.reason}")
    if stopped is not None:
        _print_stop(stopped, command, console)
        return 1
    if best is None:
        print_line(console, f"no trial completed; the error of each one is in {shorten(ledger.folder)}/trials")
        return 1
    exported = ledger.folder / BEST_RECIPE
    write_recipe(ledger, best.number, exported)
    print_line(console, f"best: trial {best.number:04d}, its recipe is in {shorten(exported)}")
    print_line(console, "next:")
    for line in list_next_commands(study.name, path, exported):
        print_line(console, f"  {line}")
    print_references(ledger, console)
    print_verdict(ledger, console)
    return 0


def give_up_on_ray(notifier: Notifier | None, command: str, console: Console, reason: str) -> None:
    """Say, in another thread, why a session's process ends while its main thread waits for a Ray that has ended.

    Nothing is recorded, as that thread may be about to: the next session finds what a driver that was killed leaves.
    """
    _print_stop(reason, command, console)
    console.show_cursor()  # which a live table hides
    if notifier is not None:
        notifier.stop(f"{describe_stop(reason)}; continue with: {command}")
        notifier.close()


def _print_stop(stopped: str, command: str, console: Console) -> None:
    print_line(console, f"stopped: {stopped}. Correct it, then continue with: {command}")


def make_continue_command(name: str, path: Path, trials: int | None) -> str:
    """The command that continues the study, where the user is."""
    if place := os.environ.get(PLACE_VARIABLE):
        return f"decred-study resume {name} {place}"
    return f"decred-study run {path}" + (f" --trials {trials}" if trials is not None else "")


def list_next_commands(name: str, path: Path, exported: Path) -> list[str]:
    """The commands that browse, export and train."""
    if place := os.environ.get(PLACE_VARIABLE):
        return [
            f"decred-study report {name} {place} -o report.html",
            f"decred-study export {name} {place} -o {BEST_RECIPE}",
        ]
    return [
        f"decred-study report {path} -o report.html",
        f"decred-study dashboard {path}",
        f"decred-study export {path} --best best-asr",
        f"decred-study train {shorten(exported)}",
    ]


def print_line(console: Console, line: str) -> None:
    """A line as it is, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def shorten(path: Path) -> str:
    """The path relative to the current folder, where it is below that."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
