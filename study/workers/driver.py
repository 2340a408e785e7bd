"""Tune's side of a trial: the process that has a crew of workers train recipe after recipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from typing import Any

from ray import tune

from study.workers.crew import Crew
from study.workers.draining import DrainWatch
from study.workers.failure import Failure, FailureKind
from study.workers.in_process import InProcess
from study.workers.messages import CrewConfig, Done, Interrupted, Report, TrialConfig

HEARTBEAT_SECONDS = 1.0  # so long may a stop wait for a driver that watches its workers
SAVE_SECONDS = 8.0  # for a checkpoint when the study stops; Tune waits ten for the end of a driver
EXIT_SECONDS = 15.0  # for Tune to read the error of a driver that has to end, and to end it
ANSWER_SECONDS = 1.0  # for it to read that the driver was ended
MESSAGE = "message"  # in a result: a Report or a Failure
TRIAL, CREW = "trial", "crew"  # in a config: a TrialConfig and a CrewConfig


class StalledError(Exception):
    """A worker hangs that only ends with its driver's process. An error, since Tune uses no driver again after one."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class TrialDriver(tune.Trainable):
    """Tune's side of a trial: a step is a report, or a heartbeat. One driver and its workers run trial after trial."""

    def setup(self, config: dict) -> None:
        self._crew = open_crew(config[CREW], config[TRIAL].avoided)
        self._begun = self._unanswered = False
        self._announced: str | None = None  # that a node of the trial's will be taken
        self._draining = DrainWatch()

    def step(self) -> dict[str, Any]:
        if not self._begun:
            trial: TrialConfig = self.config[TRIAL]
            self._crew.begin(trial.task)
            self._begun = True
        if self._unanswered:
            self._crew.answer(proceed=True)
            self._unanswered = False
        self._leave_drained_node()
        message: Report | Done | Interrupted | Failure | None = self._crew.next(HEARTBEAT_SECONDS)
        if isinstance(message, Interrupted):
            self._crew.close()  # the node is shut down once nothing is there
            reason = f"{self._announced}; the trial left it {message.place}, and continues on another one"
            message = Failure(FailureKind.PREEMPTED, reason, message.node, message.node_id)
        if isinstance(message, Failure) and self._crew.holds_process:
            _exit_after(EXIT_SECONDS)
            raise StalledError(message)
        self._unanswered = isinstance(message, Report)
        result: dict[str, Any] = {"done": isinstance(message, Done | Failure)}
        if isinstance(message, Report | Failure):
            result[MESSAGE] = message
        return result

    def leave(self) -> None:
        """Have the workers leave the trial at the report that waits for an answer, which they write down."""
        self._crew.stop()
        self._unanswered = False

    def reset_config(self, new_config: dict) -> bool:
        self.leave()
        avoided: tuple[str, ...] = new_config[TRIAL].avoided
        if not self._crew.usable or self._crew.node_ids & set(avoided):
            self._crew.close()
            self._crew = open_crew(new_config[CREW], avoided)
        self._begun = False
        self._announced = None
        return True

    def cleanup(self) -> None:
        self._draining.close()
        if self._crew.holds_process:
            _exit_after(ANSWER_SECONDS)
            return
        if not self._unanswered and self._crew.interrupt():  # the study stops, and would lose a part of an epoch
            self._crew.next(SAVE_SECONDS)
        self._crew.close()

    def _leave_drained_node(self) -> None:
        """Have the workers leave with a checkpoint where Ray drains the node of one of them.

        Where they do not manage before it is taken, they are lost, and the trial continues from the one before.
        """
        if self._announced is None:
            announced = self._draining.describe(self._crew.node_ids)
            if announced is not None and self._crew.interrupt():
                self._announced = announced


def _exit_after(seconds: float) -> None:
    """End this process, although a thread of it hangs, which Python would wait for at its end."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def open_crew(config: CrewConfig, avoided: Collection[str] = ()) -> Crew:
    """The crew that a study's `workers` ask for, on none of the `avoided` nodes.

    A single worker is where Tune has placed this process: `study.execution.tune` avoids the nodes for it.
    """
    if config.count == 1:
        return InProcess(config.train, config.cpus, config.stall_seconds, config.start_seconds, config.stall_epochs)
    from study.workers.group import Group  # Ray Train takes a second to import

    return Group(config, avoided)
