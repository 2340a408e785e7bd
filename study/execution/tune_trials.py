"""A trial as Tune has it: its number, its driver's process, and how that was lost."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import ray
from ray.tune.experiment import Trial

from study.workers.crew import STOP_SECONDS
from study.workers.driver import TRIAL
from study.workers.messages import TrialConfig
from study.workers.worker import one_line

_LONGEST_REASON = 200  # characters; Ray reports in a paragraph how an actor died


def number_of(trial: Trial) -> int:
    """The study's number of a trial of Tune's."""
    config: TrialConfig = trial.config[TRIAL]
    return config.number


def leave_workers(trial: Trial) -> None:
    """Have a trial's workers leave it at its last report, and wait until they have, or are too slow.

    Tune keeps its driver for the next trial, which alone would have them leave. This one may continue sooner, with
    other workers: they find that the epoch was reported only when these have written so.
    """
    with contextlib.suppress(ray.exceptions.RayError):  # of a driver that was lost, which Tune finds
        ray.get(trial.temporary_state.ray_actor.leave.remote(), timeout=STOP_SECONDS)


def read_error(trial: Trial) -> BaseException | None:
    """What was raised in the trial's driver, or what became of it; None where Ray gave no reason."""
    with contextlib.suppress(OSError, pickle.PickleError, TypeError, AttributeError):
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        return getattr(error, "cause", None) or error
    return None


def describe_error(error: BaseException | None) -> str:
    """That error in a few words."""
    return "Ray gave no reason" if error is None else one_line(error).split(". ")[0][:_LONGEST_REASON]
