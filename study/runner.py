"""Running a study: check everything, prepare once, try recipe after recipe, close with what was found.

Running it again goes on with whatever is there: trials that ended stay, interrupted ones go on first.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.connect import connected
from cluster.errors import ClusterError
from cluster.resources import Need, Node, concurrency, this_machine
from model.errors import UserError
from model.recipe import Recipe
from model.strict import to_yaml, validate, write_atomically
from study.ledger import Ledger, State, manifest
from study.live import Board, on_screen, screen
from study.mlflow_adapter import Tracker, check_uri
from study.optuna_adapter import Proposal, Proposer
from study.recorder import Recorder
from study.results import best, export_recipe, table
from study.study_file import StudyFile, base_recipe, read_study, study_folder
from study.trial_record import TrialRecord

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
    try:
        session = _open(study, folder, address, console, work)
        if session.to_do:
            with connected(address) as nodes:
                _forward_sigterm()
                _run_trials(session, concurrency(nodes, need_of(study), study.workers.concurrent_trials), console, work)
    except KeyboardInterrupt:
        return _stopped(folder, path, trials, console)
    except ClusterError as error:
        raise UserError(str(error)) from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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


def need_of(study: StudyFile) -> Need:
    """What one trial asks the cluster for."""
    return Need(study.workers.count, study.workers.cpus, study.workers.gpus)


def admitted(study: StudyFile, nodes: list[Node] | None = None) -> int:
    """Trials at the same time on this machine (or on `nodes`); a UserError when not even one fits."""
    try:
        return concurrency(nodes or [this_machine()], need_of(study), study.workers.concurrent_trials)
    except ClusterError as error:
        raise UserError(str(error)) from None


def _open(study: StudyFile, folder: Path, address: str | None, console: Console, work: Work) -> _Session:
    """Every check that can be made before something starts, then what all trials share."""
    base = base_recipe(study)
    if address is None:
        admitted(study)
    if study.tracking is not None:
        check_uri(study.tracking)
    with console.status("preparing tokenizer and features"):
        from study.trial import resolve

        prepared: Recipe = resolve(work.prepare)(base)
    ledger = Ledger.create_or_open(folder, study, prepared, manifest())
    proposer = Proposer(study, prepared, f"sqlite:///{folder}/optuna.db")
    tracker = Tracker(study.tracking, study.name, folder, ledger.manifest.get("id"))
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
        board.seen(record, ledger.base_recipe.training.epochs)
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
        proposal: Proposal | None = next(waiting, None) or session.proposer.propose()
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


def _forward_sigterm() -> None:
    """SIGTERM stops a study as Ctrl-C does. A handler in Python works only when installed after Ray has started."""
    with contextlib.suppress(ValueError):  # not in the main thread: signals are somebody else's business
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))


def _stopped(folder: Path, path: Path, trials: int | None, console: Console) -> int:
    again = f"decred-study run {path}" + (f" --trials {trials}" if trials is not None else "")
    console.print(f"stopped; what was done is in {_short(folder)}. Go on with: {again}", soft_wrap=True)
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
