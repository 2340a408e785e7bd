"""Running a study: check everything, prepare once, try recipe after recipe, close with what was found.

Running it again goes on with whatever is there: trials that ended stay, interrupted ones go on first.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.connect import connected
from cluster.errors import ClusterError
from cluster.resources import Node
from model.errors import UserError
from model.strict import to_yaml, validate, write_atomically
from study import lease
from study.checks import Checked, admitted, check
from study.ledger import STUDY, Ledger
from study.live import Board, on_screen, screen
from study.manifest import manifest
from study.mlflow_adapter import Tracker
from study.optuna_adapter import Proposal, Proposer
from study.recorder import Recorder, settle
from study.results import best, export_recipe, table
from study.study_file import StudyFile, read_study, study_folder
from study.trial_record import State, TrialRecord

BEST_RECIPE = "best-recipe.yaml"
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


@dataclass(frozen=True)
class Work:
    """What is done for a recipe, as `module:function`; tests put a quick stand-in here."""

    train: str = "model.loop:train"
    prepare: str = "model.prepare:prepare"


def run_study(
    path: Path,
    trials: int | None = None,
    address: str | None = None,
    console: Console | None = None,
    work: Work | None = None,
) -> int:
    """Run the study in a file to its end; the exit code: 0, 1 when no trial completed, 130 when it was stopped."""
    console, work = console or screen(), work or Work()
    study = with_trials(read_study(path), trials)
    folder = study_folder(study)
    checked = check(study, address)
    with contextlib.ExitStack() as held, _stop_signals():
        try:
            # A cluster is asked before the folder is made; a Ray of our own starts last.
            nodes = held.enter_context(_connected(address)) if address is not None else None
            if nodes is not None:
                admitted(study, nodes)
            session = _open(study, folder, checked, held, console, work)
            if session.to_do:
                nodes = nodes or held.enter_context(_connected(None))
                _run_trials(session, admitted(study, nodes), console, work)
        except KeyboardInterrupt:
            return _stopped(folder, path, trials, console)
    if session.recorder_left:
        return _stopped(folder, path, trials, console)
    return _close(session, path, console)


@dataclass
class _Session:
    """What one call of `run_study` holds open."""

    study: StudyFile
    ledger: Ledger
    proposer: Proposer
    tracker: Tracker
    recorder_left: bool = False

    @property
    def to_do(self) -> int:
        return self.proposer.remaining() + len(self.proposer.interrupted())


def with_trials(study: StudyFile, trials: int | None) -> StudyFile:
    """The study with another budget of sampled trials."""
    if trials is None:
        return study
    return validate(StudyFile, study.model_dump(mode="json") | {"trials": trials}, "--trials")


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[list[Node]]:
    try:
        with connected(address) as nodes:
            _forward_sigterm()  # again: Ray has put a handler of its own in its place
            yield nodes
    except ClusterError as error:
        raise UserError(str(error)) from None


def _open(
    study: StudyFile, folder: Path, checked: Checked, held: contextlib.ExitStack, console: Console, work: Work
) -> _Session:
    """What all trials share, and the study's records; the folder is ours until `held` is left."""
    with console.status("preparing tokenizer and features"):
        from study.trial import resolve

        prepared = resolve(work.prepare)(checked.base)
    ours = held.enter_context(lease.held(folder, lambda line: console.print(line, markup=False, soft_wrap=True)))
    ledger = Ledger.create_or_open(folder, study, prepared, manifest(), ours.check)
    proposer = Proposer(study, prepared, f"sqlite:///{folder}/optuna.db")
    tracker = Tracker(study.tracking, study.name, folder, ledger.manifest.get("id"))
    settle(ledger, proposer, tracker)
    return _Session(study, ledger, proposer, tracker)


def _run_trials(session: _Session, at_once: int, console: Console, work: Work) -> None:
    from study import tune_adapter  # Ray's Tune takes a second to import

    study, ledger, proposer = session.study, session.ledger, session.proposer
    board = Board(console, study.name, session.to_do, at_once)
    recorder = Recorder(ledger, proposer, session.tracker, board)
    ledger.append("study_started", trials=session.to_do, concurrency=at_once)
    for proposal in proposer.interrupted():
        recorder.catch_up(proposal.number)
    records = ledger.trials()
    for record in records.values():
        board.seen(record, int(record.values.get("training.epochs", ledger.base_recipe.training.epochs)))
    rule = study.early_stopping
    with on_screen(board, console):
        try:
            tune_adapter.run(
                propose=_configs(session, recorder),
                listener=recorder,
                rule=tune_adapter.Rule(
                    study.objective.metric,
                    study.objective.mode,
                    rule.grace_epochs if rule.rule == "asha" else None,
                    rule.reduction,
                    _seen(records, study.objective.metric),
                ),
                constants={
                    "train": work.train,
                    "workers": study.workers.model_dump(include={"count", "cpus", "gpus"}),
                    "train_storage": str(ledger.folder / "train"),
                },
                folder=ledger.folder,
                trials=session.to_do,
                concurrency=at_once,
            )
        finally:
            session.recorder_left = bool(recorder.interrupt()) or proposer.remaining() > 0
            if session.recorder_left:
                ledger.append("study_interrupted")
                session.tracker.study_ended(State.INTERRUPTED, best(ledger.trials().values(), study.objective))


def _configs(session: _Session, recorder: Recorder) -> Any:
    """Proposals as Tune's configs: interrupted trials first, then new ones; None when there are no more."""
    waiting = iter(session.proposer.interrupted())

    def propose() -> dict[str, Any] | None:
        proposal: Proposal | None = next(waiting, None) or session.proposer.propose(recorder.infeasible)
        if proposal is None:
            return None
        recorder.proposed(proposal)
        return {
            "number": proposal.number,
            "recipe": proposal.recipe.model_dump_json(),
            "baseline": proposal.baseline,
            "folder": str(session.ledger.trial_folder(proposal.number)),
        }

    return propose


def _seen(records: dict[int, TrialRecord], metric: str) -> dict[int, dict[int, float]]:
    """What earlier sessions measured at each epoch, so that rungs are compared with those trials too."""
    return {
        number: {int(epoch["epoch"]): epoch[metric] for epoch in record.epochs if metric in epoch}
        for number, record in records.items()
        if record.state is not State.FAILED
    }


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM stops a study as Ctrl-C does while the block runs. Outside the main thread signals are left alone."""
    with contextlib.suppress(ValueError):
        before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    _forward_sigterm()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # Tune leaves a handler behind
            for kind, handler in before.items():
                signal.signal(kind, handler)


def _forward_sigterm() -> None:
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))


def _stopped(folder: Path, path: Path, trials: int | None, console: Console) -> int:
    again = f"decred-study run {path}" + (f" --trials {trials}" if trials is not None else "")
    done = f"what was done is in {_short(folder)}" if (folder / STUDY).exists() else "nothing was run yet"
    console.print(f"stopped; {done}. Go on with: {again}", soft_wrap=True)
    return INTERRUPTED


def _close(session: _Session, path: Path, console: Console) -> int:
    """The table of all trials, the best recipe in a file, and what to do next."""
    records = session.ledger.trials()
    winner = best(records.values(), session.study.objective)
    session.tracker.study_ended(State.COMPLETE if winner else State.FAILED, winner)
    console.print(table(records.values(), session.study))
    for failed in [record for record in records.values() if record.state in (State.FAILED, State.INFEASIBLE)]:
        console.print(f"trial {failed.number:04d} {failed.state}: {failed.reason}", markup=False, soft_wrap=True)
    if winner is None:
        console.print(f"no trial completed; what each one said is in {_short(session.ledger.folder)}/trials")
        return 1
    recipe, number = export_recipe(session.ledger)
    exported = session.ledger.folder / BEST_RECIPE
    write_atomically(exported, to_yaml(recipe))
    console.print(f"best: trial {number:04d}, its recipe is in {_short(exported)}", soft_wrap=True)
    console.print("next:")
    for line in next_commands(path, exported):
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    return 0


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
