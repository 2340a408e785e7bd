"""One call of `run`: gives Tune the trials of the agenda, and has what they come to written down."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from study.execution.agenda import Agenda
from study.execution.decisions import Action
from study.execution.recorder import Recorder
from study.ledger.records import TrialState
from study.workers.failure import Failure, Kind

NEVER_PROMOTED = "others of its rung were better"


class Session:
    """Source and listener of `study.execution.tune.run`."""

    def __init__(self, agenda: Agenda, recorder: Recorder, folder: Path) -> None:
        self.stopped: str | None = None  # why the study stops before its end
        self._agenda, self._recorder, self._folder = agenda, recorder, folder

    def next(self) -> dict[str, Any] | None:
        self._recorder.ready()
        proposal = self._agenda.next(self._recorder.infeasible)
        if proposal is None:
            return None
        self._recorder.started(proposal)
        return {
            "number": proposal.number,
            "recipe": proposal.recipe.model_dump_json(),
            "recipe_hash": proposal.recipe.hash,
            "baseline": proposal.baseline,
            "folder": str(self._folder / "trials" / f"{proposal.number:04d}"),
        }

    def done(self) -> bool:
        return self._agenda.done()

    def stopping(self) -> bool:
        return self.stopped is not None

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        self._recorder.epoch(number, metrics)

    def complete(self, number: int, metrics: dict[str, float]) -> None:
        self._agenda.ended(number)
        self._recorder.ended(number, TrialState.COMPLETE, None, metrics)

    def pruned(self, number: int, reason: str) -> None:
        self._agenda.ended(number)
        self._recorder.ended(number, TrialState.PRUNED, reason)

    def paused(self, number: int, epoch: int, reason: str) -> None:
        self._agenda.paused(number)
        self._recorder.paused(number, epoch, reason)

    def broke(self, number: int, failure: Failure) -> None:
        decision = self._agenda.broke(number, failure)
        if decision.action is Action.RETRY:
            self._recorder.retried(number, decision)
        else:
            self._recorder.ended(number, decision.state, decision.reason, decision=decision)
        if failure.kind is Kind.DISK_FULL:  # told in the same words, whoever met it first
            raise OSError(errno.ENOSPC, failure.reason)
        if decision.action is Action.STOP:
            self.stopped = decision.reason
            if decision.setting:
                self.stopped = f"{decision.count} trials in a row broke with {decision.reason} ({decision.setting})"

    def close(self) -> None:
        """Tell of the trials that wait at a rung and will never go on, once all is done."""
        for number in self._agenda.left_behind():
            self._recorder.ended(number, TrialState.PRUNED, NEVER_PROMOTED)
