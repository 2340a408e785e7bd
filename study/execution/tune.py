"""Ray Tune, entered here and nowhere else: it runs the trials that it is given."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune

from cluster import embedded
from study.early_stopping.rule import Rule
from study.execution.driver_watch import DriverWatch
from study.execution.start_watch import StartWatch
from study.execution.tune_callbacks import (
    Admission,
    EndCallback,
    Listener,
    RuleScheduler,
    Source,
    StopAll,
    TrialSearcher,
)
from study.execution.tune_guard import FirstError, RayEnded
from study.execution.tune_memory import NoProgress
from study.execution.tune_trials import leave_workers, number_of
from study.workers.driver import CREW, TRIAL, TrialDriver
from study.workers.messages import CrewConfig, TrialConfig
from study.workers.placement import select_other_nodes

DRIVER_RESOURCES = {"node:__internal_head__": 0.001}  # no CPU: the workers need them all
UNLIMITED = -1
MOST_TRIALS = 10_000  # at the same time: the admission decides, and without a number Tune starts one by one


def run_trials(
    source: Source,
    listener: Listener,
    rule: Rule,
    objective: str,
    crew: CrewConfig,
    folder: Path,
    admission: Admission,
    find_stop: Callable[[int], str | None] = lambda number: None,
) -> str | None:
    """Run trials until the source is done, the listener is stopping, or SIGINT comes; `find_stop` as `RuleScheduler`
    has it. Returns why Ray cannot be used any more, where that ended the trials.

    What happens in a trial never raises here; an error of the source or of the listener does, once all trials stand.
    """
    _silence_ray()
    errors = FirstError(listener)
    scheduler = RuleScheduler(listener, rule, objective, errors, find_stop, leave_workers)
    tuner = tune.Tuner(
        tune.with_resources(TrialDriver, make_request),
        param_space={CREW: crew},
        tune_config=tune.TuneConfig(
            search_alg=TrialSearcher(source, errors, admission, listener.look_at_commands),
            scheduler=scheduler,
            num_samples=UNLIMITED,
            max_concurrent_trials=MOST_TRIALS,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{number_of(trial):04d}",
            trial_dirname_creator=lambda trial: f"trial-{number_of(trial):04d}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            stop=StopAll(errors, embedded.find_ended),
            callbacks=[
                EndCallback(
                    listener, scheduler, errors, DriverWatch(crew.stall_seconds), StartWatch(crew.start_seconds)
                ),
                NoProgress(),
            ],
            # The trial's own checkpoints are the recipe's business; Tune would ask for one at the end of each trial.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0, fail_fast=False),
        ),
    )
    try:
        tuner.fit()
    except RayEnded as ended:
        embedded.stop()  # else Ray ends this process a minute later, whatever it does
        return str(ended)
    finally:
        if errors.error is not None:
            raise errors.error
    return None


def make_request(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """The resources that Tune requests for a trial.

    One worker is the driver itself, on none of the nodes that the trial avoids; several have resources of their own,
    and the driver is on the head node.
    """
    crew: CrewConfig = config[CREW]
    if crew.count > 1:
        return tune.PlacementGroupFactory([DRIVER_RESOURCES])
    trial: TrialConfig = config[TRIAL]
    gpus = {"GPU": crew.gpus} if crew.gpus else {}
    selector = select_other_nodes(trial.avoided)
    placement = {"bundle_label_selector": [selector]} if selector else {}
    return tune.PlacementGroupFactory([{"CPU": crew.cpus} | gpus], **placement)


def _silence_ray() -> None:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
