"""Run a study: check everything, prepare once, try recipe after recipe, print the results.

The same call continues a study: trials that ended stay, interrupted ones continue first.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cluster.connect import connect
from cluster.embedded import GiveUp, print_reason
from cluster.errors import ClusterError
from cluster.resources import Node
from cluster.tasks import run_on_cluster
from model.errors import UserError
from study.closing import (
    explain_unwritable,
    give_up_on_ray,
    make_continue_command,
    print_line,
    print_results,
    report_stop,
)
from study.config.places import study_folder
from study.config.study_file import StudyFile, with_trials
from study.display.board import Board, make_console, show_live
from study.display.budget import describe_budget_now, find_limit
from study.display.steering import describe_orders
from study.early_stopping.rules import build_rule
from study.execution.agenda import Agenda
from study.execution.budget_plan import plan_budget
from study.execution.capacity import count_trials_at_start, make_capacity
from study.execution.checks import CheckResult, check, max_concurrent_trials
from study.execution.disk_forecast import check_disk
from study.execution.disk_space import DiskWatch
from study.execution.ended_trials import find_unscored
from study.execution.hang_watch import end_hanging
from study.execution.node_watch import NodeWatch, list_worker_nodes, read_excluded_nodes
from study.execution.private_names import check_private_names
from study.execution.registering import register_best
from study.execution.session import Observer, Session
from study.execution.shared_data import prepare_all
from study.execution.signals import forward_sigterm, handle_stop_signals
from study.execution.steering import prepare_session
from study.ledger.best import find_best
from study.ledger.events import StudyEnded, StudyInterrupted
from study.ledger.lease import hold_lease
from study.ledger.lease_file import find_last_heartbeat
from study.ledger.ledger import Ledger, read_any_study
from study.ledger.manifest import Changes, describe_changes, find_changes, make_manifest
from study.ledger.open_parts import list_open
from study.ledger.records import TrialRecord, TrialState
from study.notifications.notifier import Notifier
from study.notifications.occasions import describe_end, describe_stop
from study.search.prior import read_prior
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.tracking.flush import describe_outdated
from study.tracking.tracker import Tracker
from study.workers.messages import CrewConfig
from study.workers.worker import load_function

TRAIN = "model.training.loop:train"
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended


@dataclass(frozen=True)
class Work:
    """The functions that prepare and train a recipe, as `module:function`; tests replace them by quick stand-ins."""

    train: str = TRAIN
    prepare: str = "model.training.prepare:prepare"


def run_study(
    path: Path,
    trials: int | None = None,
    address: str | None = None,
    console: Console | None = None,
    work: Work | None = None,
    resumes: bool = False,
) -> int:
    """Run the study in a file to its end; the exit code: 0, 1 when no trial completed or the study had to stop, 130
    when it was stopped. `resumes` ends a pause that a person began."""
    console, work = console or make_console(), work or Work()
    study = with_trials(read_any_study(path), trials)
    folder = study_folder(study)
    command = make_continue_command(study.name, path, trials)
    checked = check(study, address)
    check_private_names()
    with (
        handle_stop_signals(),
        report_stop(folder, command, console),
        contextlib.ExitStack() as stack,
        explain_unwritable(folder, command),  # before the stack is closed: the notifier sends what ends a session
    ):
        # A cluster's resources are checked before the folder is made; an embedded Ray starts last.
        nodes = stack.enter_context(_connect(address)) if address is not None else None
        if nodes is not None:
            max_concurrent_trials(study, nodes)
        run = _open_run(study, folder, checked, stack, console, work, address)
        stack.callback(_close_tracker, run, path, console)
        for line in prepare_session(run.ledger, study, resumes):
            print_line(console, line)
        if run.notifier is not None:
            stack.enter_context(run.notifier)
        if run.trials_to_run or find_unscored(run.ledger) is not None:
            if nodes is None:
                give_up = functools.partial(give_up_on_ray, run.notifier, command, console)
                max_concurrent_trials(study, stack.enter_context(_connect(None, give_up)))
            run.stopped = _run_trials(run, address is not None, console, work)
        return _close_run(run, path, command, console)
    return INTERRUPTED


@dataclass
class _Run:
    """The state of one call of `run_study`."""

    study: StudyFile
    ledger: Ledger
    proposer: Proposer
    tracker: Tracker
    changes: Changes  # of versions and machine since the first session
    notifier: Notifier | None = None  # where the study file asks for messages
    is_unfinished: bool = False  # whether the session ended before all its trials
    stopped: str | None = None  # why the study had to stop

    @property
    def trials_to_run(self) -> int:
        """The number of new trials and of those that earlier sessions did not end."""
        trials = self.ledger.trials
        left = len(list_open(trials, self.study))
        return self.proposer.count_remaining(trials) + self.proposer.count_confirmations(trials) + left


@contextlib.contextmanager
def _connect(address: str | None, give_up: GiveUp = print_reason) -> Iterator[list[Node]]:
    try:
        with connect(address, give_up=give_up) as nodes:
            forward_sigterm()  # again, because Ray replaced the handler by its own
            yield nodes
    except ClusterError as error:
        raise UserError(str(error)) from None


def _open_run(
    study: StudyFile,
    folder: Path,
    checked: CheckResult,
    stack: contextlib.ExitStack,
    console: Console,
    work: Work,
    address: str | None,
) -> _Run:
    """Prepare what all trials share and open the ledger; the folder's lease is held until `stack` is closed."""
    hanging = end_hanging("the preparation of tokenizer and features", study.failures.stall_seconds)
    with console.status("preparing tokenizer and features"), hanging:
        prepare = load_function(work.prepare)
        if address is not None:
            prepare = functools.partial(prepare, run_parts=functools.partial(run_on_cluster, address=address))
        prepared = prepare_all(checked.base, study.search, prepare)
    alive_until = find_last_heartbeat(folder)  # of a driver that was killed: one that ended took its lease away
    lease = stack.enter_context(hold_lease(folder, lambda line: print_line(console, line)))
    manifest = make_manifest(study, prepared)
    ledger = Ledger.create_or_open(folder, study, prepared, manifest, lease.check)
    ledger.alive_until = alive_until
    changes = find_changes(ledger.manifest, manifest)
    if line := describe_changes(changes):
        print_line(console, line)
    tracker = Tracker(ledger)
    tracker.start()
    notifier = None if study.notify is None else Notifier(study, folder, ledger.trials)
    proposer = Proposer(study, prepared, ledger.read_recipe)
    return _Run(study, ledger, proposer, tracker, changes, notifier)


def _run_trials(run: _Run, may_grow: bool, console: Console, work: Work) -> str | None:
    """Run the trials on the connected Ray; the reason where the study had to stop before their end."""
    from study.execution import tune  # Ray's Tune takes a second to import

    study, ledger, objective = run.study, run.ledger, run.study.objective.metric
    trials_to_run = run.trials_to_run
    concurrency = count_trials_at_start(study)
    if work.train == TRAIN:  # a stand-in keeps no weights
        confirmations = run.proposer.count_confirmations(ledger.trials)
        check_disk(ledger, trials_to_run, confirmations, concurrency, functools.partial(print_line, console))
    ledger.start_session(trials_to_run, concurrency, run.changes)
    if study.search.prior is not None and ledger.trials.prior is None:
        ledger.append(read_prior(study.search.prior, run.proposer.class_spaces))
    trials = ledger.trials
    describe = functools.partial(describe_budget_now, study, trials)
    board = Board(
        console,
        study.name,
        trials,
        trials_to_run,
        concurrency,
        describe_budget=describe,
        count_left=lambda: run.trials_to_run,
        find_limit=lambda at_a_time: find_limit(study, trials, at_a_time, time.time()),
    )
    rule = build_rule(study.early_stopping, objective, trials, study.classes)

    def restore(record: TrialRecord) -> Proposal:
        return run.proposer.restore(record, ledger.read_recipe(record))

    budget = plan_budget(ledger)
    nodes = NodeWatch(list_worker_nodes, study.workers, read_excluded_nodes())
    agenda = Agenda(trials, run.proposer, restore, rule, study.failures, budget=budget, has_room=nodes.has_room)
    announce = functools.partial(print_line, console)
    observers: list[Observer] = [board, run.tracker, *([run.notifier] if run.notifier is not None else [])]
    session = Session(ledger, agenda, rule, observers, watch=nodes, announce=announce)
    workers = study.workers
    crew = CrewConfig(
        work.train,
        str(ledger.folder / "train"),
        workers.count,
        workers.cpus,
        workers.gpus,
        workers.start_seconds,
        study.failures.stall_seconds,
        study.failures.stall_epochs,
    )
    disk = DiskWatch(ledger.folder, study.disk, board.show_capacity, session)
    capacity = make_capacity(ledger, run.proposer, disk.show, session, nodes, may_grow, budget)
    run.is_unfinished = True
    with show_live(board, console), _interrupt_running_trials(session), contextlib.closing(capacity):
        admission = disk.limit(capacity)
        lost = tune.run_trials(session, session, rule, objective, crew, ledger.folder, admission, budget.find_stop)
        if lost is None:
            run.is_unfinished = not session.is_complete()
            session.end_never_promoted()
        session.stopped = session.stopped or lost
    for line in describe_orders(trials) if run.is_unfinished else ():
        announce(line)
    return session.stopped


@contextlib.contextmanager
def _interrupt_running_trials(session: Session) -> Iterator[None]:
    """When the block ends, record the trials that still run as interrupted, unless the disk is full."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            session.interrupt()


def _close_run(run: _Run, path: Path, command: str, console: Console) -> int:
    """Record how the session ended and print what came of the study; a KeyboardInterrupt where it was stopped."""
    best = find_best(run.ledger.trials.values(), run.study.objective)
    _record_end(run, best, command)
    run.ledger.keep_fold()
    if run.is_unfinished and run.stopped is None:
        raise KeyboardInterrupt  # as for a signal that Tune did not handle itself
    return print_results(run.ledger, run.study, best, run.stopped, path, command, console)


def _record_end(run: _Run, best: TrialRecord | None, command: str) -> None:
    best_fields = {"best": best.number, "best_recipe_hash": best.recipe_hash} if best else {}
    if run.is_unfinished:
        run.ledger.append(StudyInterrupted(reason=run.stopped, **best_fields))
        if run.notifier is not None:
            run.notifier.stop(f"{describe_stop(run.stopped)}; continue with: {command}")
    elif not run.ledger.trials.has_ended:
        state = TrialState.COMPLETE if best else TrialState.FAILED
        run.ledger.append(StudyEnded(state=state, **best_fields))
        if run.notifier is not None:
            run.notifier.end(describe_end(best, run.study.objective))
    run.tracker.wake()


def _close_tracker(run: _Run, path: Path, console: Console) -> None:
    """Stop the tracker's thread, and print which runs are not up to date in MLflow and how to send them.

    Where another process has taken the study over, the runs are its own: nothing more is sent or printed.
    """
    tracker = run.tracker
    try:
        run.ledger.check_ownership()
    except (UserError, OSError):  # or nobody can read whose it is
        tracker.close(patience=0.0)
        return
    try:
        outdated = tracker.close()
    except KeyboardInterrupt:  # MLflow is not waited for any longer; the line says how to send the rest
        outdated = tracker.close(patience=0.0)
    if line := describe_outdated(outdated, tracker.uri, path, tracker.refused, tracker.has_compared):
        print_line(console, line)
    register_best(run.ledger, functools.partial(print_line, console))
