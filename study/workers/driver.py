"""Tune's side of a trial: the process that has a crew of workers train recipe after recipe."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ray import tune

from study.workers.crew import Crew
from study.workers.failure import Failure
from study.workers.in_process import InProcess
from study.workers.messages import CrewConfig, Done, Report, TrialConfig

HEARTBEAT_SECONDS = 1.0  # so long may a stop wait for a driver that watches its workers
MESSAGE = "message"  # in a result: a Report or a Failure
TRIAL, CREW = "trial", "crew"  # in a config: a TrialConfig and a CrewConfig


class TrialDriver(tune.Trainable):
    """Tune's side of a trial: a step is a report, or a heartbeat. One driver and its workers run trial after trial."""

    def setup(self, config: dict) -> None:
        self._crew = open_crew(config[CREW], config[TRIAL].avoided)
        self._begun = self._unanswered = False

    def step(self) -> dict[str, Any]:
        if not self._begun:
            trial: TrialConfig = self.config[TRIAL]
            self._crew.begin(trial.task)
            self._begun = True
        if self._unanswered:
            self._crew.answer(proceed=True)
            self._unanswered = False
        message = self._crew.next(HEARTBEAT_SECONDS)
        self._unanswered = isinstance(message, Report)
        result: dict[str, Any] = {"done": isinstance(message, Done | Failure)}
        if isinstance(message, Report | Failure):
            result[MESSAGE] = message
        return result

    def reset_config(self, new_config: dict) -> bool:
        self._crew.stop()
        avoided: tuple[str, ...] = new_config[TRIAL].avoided
        if not self._crew.usable or self._crew.node_ids & set(avoided):
            self._crew.close()
            self._crew = open_crew(new_config[CREW], avoided)
        self._begun = self._unanswered = False
        return True

    def cleanup(self) -> None:
        self._crew.close()


def open_crew(config: CrewConfig, avoided: Collection[str] = ()) -> Crew:
    """The crew that a study's `workers` ask for, on none of the `avoided` nodes.

    A single worker is where Tune has placed this process: `study.execution.tune` avoids the nodes for it.
    """
    if config.count == 1:
        return InProcess(config.train, config.cpus)
    from study.workers.group import Group  # Ray Train takes a second to import

    return Group(config, avoided)
