"""A session on a ledger in a folder, for tests of what it records and decides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.execution.agenda import Agenda
from study.execution.node_watch import NodeWatch, WorkerNode
from study.execution.session import Session
from study.ledger.commands import CommandAnswer, make_command, take_answer, write_command
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.workers.messages import Report

WHO = "ada@laptop"
TINY = named_recipe("tiny", "/speech")
STUDY = StudyFile.model_validate(
    {
        "name": "s",
        "corpus": "/speech",
        "trials": 3,
        "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "sampler": "random"},
        "failures": {"retries": 1, "same_error_stops": 2},
    }
)


class RecordingObserver:
    """Keeps every record that it is updated with."""

    def __init__(self) -> None:
        self.records: list[TrialRecord] = []

    def update(self, record: TrialRecord) -> None:
        self.records.append(record)


class RecordingRule:
    """Keeps the numbers of the trials that are removed from it."""

    def __init__(self) -> None:
        self.removed: list[int] = []
        self.overridden: list[tuple[int, bool]] = []  # with whether they have ended

    def remove(self, number: int) -> None:
        self.removed.append(number)

    def override(self, number: int, ended: bool) -> None:
        self.overridden.append((number, ended))

    def promote_next(self, closed: bool = False) -> int | None:
        return None

    def explain(self, number: int) -> str | None:
        return None

    def decide(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the session does not ask the rule")


class OpenSession:
    """A session on a ledger in a folder, with a clock that the test sets."""

    def __init__(self, folder: Path, nodes: Sequence[WorkerNode] = (), rule: Any = None) -> None:
        self.ledger = Ledger.create_or_open(folder, STUDY, TINY, {"id": "abc"})
        self.ledger.start_session()
        self.observer, self.rule, self.now = RecordingObserver(), rule or RecordingRule(), 100.0
        proposer = Proposer(STUDY, TINY)

        def restore(record: TrialRecord) -> Proposal:
            return proposer.restore(record, self.ledger.read_recipe(record))

        self.nodes, self.lines = list(nodes), list[str]()
        self.watch = NodeWatch(lambda: self.nodes, STUDY.workers, clock=lambda: self.now)
        self.agenda = Agenda(
            self.ledger.trials,
            proposer,
            restore,
            self.rule,
            STUDY.failures,
            lambda: self.now,
            None,
            self.watch.has_room,
        )
        self.session = Session(
            self.ledger, self.agenda, self.rule, [self.observer], lambda: self.now, self.watch, self.lines.append
        )


def give(running: OpenSession, command: str, number: int | None = None, value: str | None = None) -> CommandAnswer:
    """Give a command and have the session look; its answer."""
    given = make_command(command, number, value, WHO)
    write_command(running.ledger.folder, given)
    running.now += 2.0
    running.session.look_at_commands()
    answer = take_answer(running.ledger.folder, given.id)
    assert answer is not None
    return answer


def start(running: OpenSession, *epochs: int) -> int:
    """Start the next trial, and have it report these epochs; its number."""
    trial = running.session.next()
    assert trial is not None
    for epoch in epochs:
        running.session.record_epoch(trial.number, report(epoch))
    return trial.number


def report(epoch: int, **more: float) -> Report:
    return Report({"epoch": epoch, "dev/wer": 50.0 - epoch, **more}, waited=0.5, node="a", device="cpu")
