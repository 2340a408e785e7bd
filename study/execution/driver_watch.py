"""Trials whose driver's process does not respond: it is frozen, or its machine is. They are ended, to be tried again.

A driver that responds sends Tune a result about once a second, and watches its workers itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

import ray
from ray.tune.experiment import Trial

from model.runtime.stall import StallWatch
from study.execution.tune_guard import NotPickled

LEAST_SECONDS = 60.0  # a driver may be busy with the start and the end of its workers


class DriverWatch(NotPickled):
    """Knows when each trial's driver last responded. `seconds` is the limit of a study, None for none."""

    def __init__(self, seconds: float | None, least: float = LEAST_SECONDS) -> None:
        self._seconds = None if seconds is None else max(seconds, least)
        self._watches: dict[str, StallWatch] = {}  # by Tune's id of a trial
        self._silent: dict[str, float] = {}  # seconds; of trials whose driver was killed

    def note(self, trial: Trial) -> None:
        """A trial's driver has started, or has sent a result."""
        # A new one each time: however long a driver was silent before, it may be no longer than the limit.
        self._watches[trial.trial_id] = StallWatch(self._seconds)

    def look(self, trials: Collection[Trial]) -> None:
        """Kill the drivers of running trials that are silent for too long; Tune then finds that they are lost."""
        for trial in trials:
            watch = self._watches.get(trial.trial_id)
            actor = trial.temporary_state.ray_actor
            if trial.status != Trial.RUNNING or watch is None or actor is None:
                continue
            if (silent := watch.look()) is not None:
                del self._watches[trial.trial_id]
                self._silent[trial.trial_id] = silent
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.kill(actor)
        self._forget_all_but({trial.trial_id for trial in trials if trial.status in (Trial.PENDING, Trial.RUNNING)})

    def _forget_all_but(self, kept: set[str]) -> None:
        """A study has thousands of trials; one that paused is noted again when it continues."""
        for gone in self._watches.keys() - kept:
            del self._watches[gone]

    def take_silence(self, trial: Trial) -> str | None:
        """Why a trial's driver was killed; None where it was not."""
        silent = self._silent.pop(trial.trial_id, None)
        if silent is None:
            return None
        return f"the trial's driver did not respond for {silent:.0f} s (failures.stall_seconds), and was killed"
