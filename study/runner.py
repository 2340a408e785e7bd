"""Running a study: check everything, prepare once, try recipe after recipe, close with what was found.

Running it again goes on with whatever is there: trials that ended stay, interrupted ones go on first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cluster.connect import connect
from cluster.errors import ClusterError
from cluster.resources import Node
from model.errors import UserError
from model.strict import to_yaml, write_atomically
from study.config.study_file import StudyFile, read_study, study_folder, with_trials
from study.display.board import Board, on_screen, screen
from study.display.table import best, export_recipe, table
from study.evidence.rank_correlation import rung_lines
from study.execution.agenda import Agenda
from study.execution.checks import Checked, admitted, check
from study.execution.private_names import check_private_names
from study.execution.recorder import Recorder, settle
from study.execution.session import Session
from study.execution.signals import forward_sigterm, stop_signals
from study.ledger import lease
from study.ledger.ledger import STUDY, Ledger
from study.ledger.manifest import Changes, changed, changes_line, manifest
from study.ledger.records import TrialState
from study.search.optuna_store import place, storage_url
from study.search.proposer import Proposer
from study.tracking.tracking import Tracking, undelivered
from study.workers.failure import is_disk_full
from study.workers.worker import resolve

BEST_RECIPE = "best-recipe.yaml"
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


@dataclass(frozen=True)
class Work:
    """What is done for a recipe, as `module:function`; tests put a quick stand-in here."""

    train: str = "model.training.loop:train"
    prepare: str = "model.training.prepare:prepare"


def run_study(
    path: Path,
    trials: int | None = None,
    address: str | None = None,
    console: Console | None = None,
    work: Work | None = None,
) -> int:
    """Run the study in a file to its end; the exit code: 0, 1 when no trial completed or the study had to stop, 130
    when it was stopped."""
    console, work = console or screen(), work or Work()
    study = with_trials(read_study(path), trials)
    folder = study_folder(study)
    again = f"decred-study run {path}" + (f" --trials {trials}" if trials is not None else "")
    checked = check(study, address)
    check_private_names()
    with contextlib.ExitStack() as held, stop_signals():
        try:
            # A cluster is asked before the folder is made; a Ray of our own starts last.
            nodes = held.enter_context(_connected(address)) if address is not None else None
            if nodes is not None:
                admitted(study, nodes)
            opened = _open(study, folder, checked, held, console, work)
            held.callback(_close_tracking, opened.tracking, path, console)
            if opened.to_do:
                nodes = nodes or held.enter_context(_connected(None))
                opened.stopped = _run_trials(opened, admitted(study, nodes), console, work)
            return _close(opened, path, again, console)
        except KeyboardInterrupt:
            return _interrupted(folder, again, console)
        except (OSError, UserError) as error:
            if not is_disk_full(error):
                raise
            raise UserError(_full(folder, again)) from None


@dataclass
class _Opened:
    """What one call of `run_study` holds open."""

    study: StudyFile
    ledger: Ledger
    proposer: Proposer
    tracking: Tracking
    changes: Changes  # of versions and machine, since the study was begun
    left: bool = False  # whether trials are left that were to run
    stopped: str | None = None  # why the study had to stop

    @property
    def to_do(self) -> int:
        return self.proposer.remaining() + len(self.proposer.interrupted())


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[list[Node]]:
    try:
        with connect(address) as nodes:
            forward_sigterm()  # again: Ray has put a handler of its own in its place
            yield nodes
    except ClusterError as error:
        raise UserError(str(error)) from None


def _open(
    study: StudyFile, folder: Path, checked: Checked, held: contextlib.ExitStack, console: Console, work: Work
) -> _Opened:
    """What all trials share, and the study's records; the folder is ours until `held` is left."""
    with console.status("preparing tokenizer and features"):
        prepared = resolve(work.prepare)(checked.base)
    ours = held.enter_context(lease.held(folder, lambda line: console.print(line, markup=False, soft_wrap=True)))
    now = manifest(study, prepared)
    ledger = Ledger.create_or_open(folder, study, prepared, now, ours.check)
    changes = changed(ledger.manifest, now)
    if line := changes_line(changes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    proposer = Proposer(study, prepared, storage_url(study, folder), ledger.manifest.get("id"))
    if filled := settle(ledger, proposer):
        line = f"Optuna's database {place(proposer.url)} was empty; {filled} trials were filled in from the ledger"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    tracking = Tracking(ledger)
    tracking.start()
    return _Opened(study, ledger, proposer, tracking, changes)


def _run_trials(opened: _Opened, at_once: int, console: Console, work: Work) -> str | None:
    """Run what is to do; why the study had to stop before that, if it had to."""
    from study.early_stopping import rules as stopping
    from study.execution import tune as tune_adapter  # Ray's Tune takes a second to import

    study, ledger = opened.study, opened.ledger
    board = Board(console, study.name, opened.to_do, at_once)
    recorder = Recorder(ledger, opened.proposer, opened.tracking, board)
    ledger.append("study_started", trials=opened.to_do, concurrency=at_once, changed=opened.changes)
    records = ledger.trials()
    for record in records.values():
        board.seen(record, int(record.values.get("training.epochs", ledger.base_recipe.training.epochs)))
    rule = stopping.rule_of(study.early_stopping, study.objective.metric, records)
    rungs = rule.promotion if isinstance(rule, stopping.Promote) else None
    session = Session(Agenda(opened.proposer, rungs, study.failures, records), recorder, ledger.folder)
    constants = {
        "train": work.train,
        "workers": study.workers.model_dump(include={"count", "cpus", "gpus"}),
        "train_storage": str(ledger.folder / "train"),
    }
    opened.left = True
    with on_screen(board, console), _interrupting(recorder):
        tune_adapter.run(session, session, rule, study.objective.metric, constants, ledger.folder, at_once)
        opened.left = not session.done()
        session.close()
    return session.stopped


@contextlib.contextmanager
def _interrupting(recorder: Recorder) -> Iterator[None]:
    """However the block is left, trials that still run are told as interrupted; where the disk is full, by silence."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            recorder.interrupt()


def _interrupted(folder: Path, again: str, console: Console) -> int:
    done = f"what was done is in {_short(folder)}" if (folder / STUDY).exists() else "nothing was run yet"
    console.print(f"stopped; {done}. Go on with: {again}", soft_wrap=True)
    return INTERRUPTED


def _full(folder: Path, again: str) -> str:
    where = f"the disk that holds {_short(folder)} is full"
    return f"{where}; nothing that ended is lost. Free space, then go on with: {again}"


def _close(opened: _Opened, path: Path, again: str, console: Console) -> int:
    """The table of all trials, the best recipe in a file, and what to do next; or how to go on."""
    ledger = opened.ledger
    records = ledger.trials()
    winner = best(records.values(), opened.study.objective)
    if opened.left:
        ledger.study_interrupted(opened.stopped, winner)
    elif not ledger.has_ended():
        ledger.study_ended(TrialState.COMPLETE if winner else TrialState.FAILED, winner)
    opened.tracking.wake()
    if opened.left and opened.stopped is None:
        return _interrupted(ledger.folder, again, console)
    console.print(table(records.values(), opened.study))
    for line in rung_lines(records.values(), opened.study):
        console.print(line, highlight=False, soft_wrap=True)
    for failed in [record for record in records.values() if record.state in (TrialState.FAILED, TrialState.INFEASIBLE)]:
        console.print(f"trial {failed.number:04d} {failed.state}: {failed.reason}", markup=False, soft_wrap=True)
    if opened.stopped is not None:
        console.print(f"stopped: {opened.stopped}. Mend it, then go on with: {again}", markup=False, soft_wrap=True)
        return 1
    if winner is None:
        console.print(f"no trial completed; what each one said is in {_short(ledger.folder)}/trials")
        return 1
    recipe, number = export_recipe(ledger)
    exported = ledger.folder / BEST_RECIPE
    write_atomically(exported, to_yaml(recipe))
    console.print(f"best: trial {number:04d}, its recipe is in {_short(exported)}", soft_wrap=True)
    console.print("next:")
    for line in next_commands(path, exported):
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    return 0


def _close_tracking(tracking: Tracking, path: Path, console: Console) -> None:
    """Before the program ends, and with it the sender: what MLflow has not heard is not lost."""
    line = undelivered(tracking.close(), tracking.uri, path, tracking.refused)
    if line:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def next_commands(path: Path, exported: Path) -> list[str]:
    """Browse, export, train."""
    return [
        f"decred-study dashboard {path}",
        f"decred-study export {path} -o {BEST_RECIPE}",
        f"decred-study train {_short(exported)}",
    ]


def _short(path: Path) -> str:
    """Relative to the current folder where it lies below."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
