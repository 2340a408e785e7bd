"""Drivers of trials that do not come up, though they have their resources: they are ended, to be tried again.

Ray waits for the start of a process without a limit, for instance where it imports from a file system that does not
answer. Tune says nothing of a driver before it has started, so that the driver is looked for among those that it has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import ray
from ray.tune.experiment import Trial

from model.runtime.stall import StallWatch
from study.execution.tune_guard import NotPickled
from study.workers.failure import Failure, FailureKind


class StartWatch(NotPickled):
    """Knows since when each trial's driver starts. `seconds` is the limit of a study, None for none."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._watches: dict[str, StallWatch] = {}  # by Tune's id of a trial
        self._failures: dict[str, Failure] = {}  # of trials whose driver was killed

    def look(self, controller: Any) -> None:
        """Kill the drivers that have not started within the limit; Tune then finds that they are lost."""
        starting = dict(_list_starting(controller)) if controller is not None else {}
        kept = {trial.trial_id for trial in starting}
        for gone in self._watches.keys() - kept:
            del self._watches[gone]
        for trial, actor in starting.items():
            if trial.trial_id in self._failures:
                continue
            watch = self._watches.setdefault(trial.trial_id, StallWatch(self._seconds))
            if watch.look() is not None:
                reason = (
                    f"the trial's driver had its resources, but did not start within {self._seconds:g} s "
                    "(workers.start_seconds), and was killed; see the logs of Ray's workers on its machine"
                )
                self._failures[trial.trial_id] = Failure(FailureKind.START, reason)
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.kill(actor)

    def take_failure(self, trial: Trial) -> Failure | None:
        """Why a trial's driver was killed; None where it was not."""
        return self._failures.pop(trial.trial_id, None)


def _list_starting(controller: Any) -> Iterator[tuple[Trial, Any]]:
    """The trials whose driver has its resources and has not started, each with the driver's actor."""
    controller = getattr(controller, "_tune_controller", controller)
    living = controller._actor_manager._live_actors_to_ray_actors_resources
    for trial, tracked in controller._trial_to_actor.items():
        if trial.status == Trial.PENDING and tracked in living:
            yield trial, living[tracked][0]
