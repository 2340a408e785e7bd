"""Drivers of trials that do not come up: they are ended, to be tried again.

Ray waits for the start of a process without a limit, for instance where it imports from a file system that does not
answer. It waits so, too, for resources on the nodes that a trial does not avoid, while others could have those that are
free. Tune says nothing of a driver before it has started, so that the driver is looked for among those that it has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import ray
from ray.tune import TuneError
from ray.tune.experiment import Trial

from model.runtime.stall import StallWatch
from study.execution.tune_guard import NotPickled
from study.workers.driver import CREW, TRIAL
from study.workers.failure import Failure, FailureKind

ELSEWHERE_SECONDS = 60.0  # for room, where some nodes are avoided; as groups of workers have it


class StartWatch(NotPickled):
    """Knows since when each trial's driver starts, or waits for room beside nodes that it avoids. `seconds` is the
    limit that a study gives its starts, None for none."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._watches: dict[str, StallWatch] = {}  # by Tune's id of a trial
        self._patience: dict[str, StallWatch] = {}  # the same, of those that have no room
        self._failures: dict[str, Failure] = {}  # of trials whose driver was ended

    def look(self, controller: Any) -> None:
        """End the drivers that have not started within the limit, or found no room beside the nodes they avoid."""
        if controller is not None:
            controller = getattr(controller, "_tune_controller", controller)
            self._look_at_starts(dict(_list_starting(controller)))
            self._look_at_waits(controller)

    def _look_at_starts(self, starting: dict[Trial, Any]) -> None:
        """Kill the drivers that have not started within the limit; Tune then finds that they are lost."""
        _keep(self._watches, starting)
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

    def _look_at_waits(self, controller: Any) -> None:
        """Have Tune end the trials that have waited for long, as those whose driver was lost."""
        waiting = list(_list_confined(controller))
        _keep(self._patience, waiting)
        for trial in waiting:
            watch = self._patience.setdefault(trial.trial_id, StallWatch(ELSEWHERE_SECONDS))
            if watch.look() is not None:
                reason = f"no room within {ELSEWHERE_SECONDS:g} s on the nodes that the trial does not avoid"
                self._failures[trial.trial_id] = Failure(FailureKind.START, reason, lacks_room=True)
                controller._unstage_trial_with_resources(trial)  # else it goes on counting on the trial's start
                controller._process_trial_failure(trial, TuneError(reason))

    def take_failure(self, trial: Trial) -> Failure | None:
        """Why a trial's driver was ended; None where it was not."""
        return self._failures.pop(trial.trial_id, None)


def _keep(watches: dict[str, StallWatch], trials: Iterable[Trial]) -> None:
    """Forget the watches of all other trials."""
    for gone in watches.keys() - {trial.trial_id for trial in trials}:
        del watches[gone]


def _list_starting(controller: Any) -> Iterator[tuple[Trial, Any]]:
    """The trials whose driver has its resources and has not started, each with the driver's actor."""
    living = controller._actor_manager._live_actors_to_ray_actors_resources
    for trial, tracked in controller._trial_to_actor.items():
        if trial.status == Trial.PENDING and tracked in living:
            yield trial, living[tracked][0]


def _list_confined(controller: Any) -> Iterator[Trial]:
    """The trials of one worker that wait for resources, and not on every node."""
    living = controller._actor_manager._live_actors_to_ray_actors_resources
    waiting = (trial for trial, tracked in controller._trial_to_actor.items() if tracked not in living)
    for trial in waiting:
        if trial.status == Trial.PENDING and trial.config[CREW].count == 1 and trial.config[TRIAL].avoided:
            yield trial
