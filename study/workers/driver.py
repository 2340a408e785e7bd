"""Tune's side of a trial: the process that has a crew of workers train recipe after recipe."""

from __future__ import annotations

from typing import Any

from ray import tune

from study.workers.crew import Crew, Done, Report
from study.workers.failure import Failure
from study.workers.in_process import InProcess

HEARTBEAT_SECONDS = 1.0  # so long may a stop wait for a driver that watches its workers
REPORT, BROKE, PLACE = "report", "broke", "placement_group"  # in a result: metrics, (kind, reason), an id


class TrialDriver(tune.Trainable):
    """Tune's side of a trial: a step is a report, or a heartbeat. One driver and its workers run trial after trial."""

    def setup(self, config: dict) -> None:
        self._crew = crew_of(config)
        self._begun = self._asked = False

    def step(self) -> dict[str, Any]:
        if not self._begun:
            self._crew.begin({name: self.config[name] for name in ("recipe", "recipe_hash", "folder")})
            self._begun = True
        if self._asked:
            self._crew.answer(go_on=True)
            self._asked = False
        happened = self._crew.next(HEARTBEAT_SECONDS)
        if isinstance(happened, Report):
            self._asked = True
            return self._beat() | {REPORT: happened.metrics}  # apart from Tune's own figures
        if isinstance(happened, Failure):
            return self._beat() | {"done": True, BROKE: (happened.kind.value, happened.reason)}
        return self._beat() | {"done": isinstance(happened, Done)}

    def _beat(self) -> dict[str, Any]:
        return {PLACE: self._crew.placement_group} if self._crew.placement_group else {}

    def reset_config(self, new_config: dict) -> bool:
        self._crew.stop()
        if not self._crew.usable:
            self._crew.close()
            self._crew = crew_of(new_config)
        self._begun = self._asked = False
        return True

    def cleanup(self) -> None:
        self._crew.close()


def crew_of(constants: dict[str, Any]) -> Crew:
    """The crew that a study's `workers` ask for."""
    workers = constants["workers"]
    if workers["count"] == 1:
        return InProcess(constants["train"], workers["cpus"])
    from study.workers.group import Group  # Ray Train takes a second to import

    return Group(constants)
