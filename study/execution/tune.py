"""Ray Tune, entered here and nowhere else: it runs the trials that it is given and tells how each one ended.

Tune decides nothing about the search. Our searcher hands over what is next, our scheduler asks the study's rule after
every epoch, and a callback passes what happens to whoever listens.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.placement_groups import remove_placement_group
from study.early_stopping.rules import Rule, Verdict
from study.execution.tune_guard import Guard, NotKept
from study.workers.driver import BROKE, PLACE, REPORT, TrialDriver
from study.workers.failure import Failure, Kind
from study.workers.worker import one_line

DRIVER_RESOURCES = {"node:__internal_head__": 0.001}  # no CPU: the workers need them all
UNLIMITED = -1
_LONGEST_REASON = 200  # characters; Ray tells in a paragraph how an actor died
_REPORTED = f"{REPORT}/"  # before each metric of a report, where Tune has made a result flat


class Source(Protocol):
    """Where trials come from."""

    def next(self) -> dict[str, Any] | None:
        """The next trial's config: number, recipe, recipe_hash, folder, baseline; None while there is none."""

    def done(self) -> bool:
        """Whether no more will come."""


class Listener(Protocol):
    """Who is told of every trial: what an epoch gave, and how it went on or ended."""

    def epoch(self, number: int, metrics: dict[str, float]) -> None: ...
    def complete(self, number: int, metrics: dict[str, float]) -> None: ...
    def pruned(self, number: int, reason: str) -> None: ...
    def paused(self, number: int, epoch: int, reason: str) -> None: ...
    def broke(self, number: int, failure: Failure) -> None: ...

    def stopping(self) -> bool:
        """Whether the study is to stop."""


class _Searcher(NotKept, Searcher):
    """Hands over one trial after the other."""

    def __init__(self, source: Source, guard: Guard) -> None:
        super().__init__()
        self._source, self._guard = source, guard

    def suggest(self, trial_id: str) -> Any:
        config = None if self._guard.stopping() else self._guard.call(self._source.next)
        if config is None and (self._guard.stopping() or self._source.done()):
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The callback tells how a trial ended; Tune does not say here whether it was stopped."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record that a study goes on from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see save."""


class Scheduler(NotKept, FIFOScheduler):
    """Has each epoch written down, then asks the rule; spares baselines, ends a trial whose objective is no number.

    Written down here and not in the callback, which Tune calls when it has decided: a trial whose epoch could not be
    written gets no answer to it, and so reports it again when it goes on.
    """

    def __init__(self, listener: Listener, rule: Rule, metric: str, guard: Guard) -> None:
        super().__init__()
        self._listener, self._rule, self._objective, self._guard = listener, rule, metric, guard
        self.last: dict[int, dict[str, float]] = {}  # an epoch's metrics
        self.decided: dict[int, tuple[Verdict | Kind, str]] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        self.decided.pop(trial.config["number"], None)  # it was paused, or is retried

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        number = trial.config["number"]
        metrics = {name.removeprefix(_REPORTED): value for name, value in result.items() if name.startswith(_REPORTED)}
        if not metrics:
            return TrialScheduler.CONTINUE  # a heartbeat
        self.last[number] = metrics
        self._guard.call(self._listener.epoch, number, metrics)
        if self._guard.error is not None:
            return TrialScheduler.STOP
        return self._judged(trial, metrics)

    def _judged(self, trial: Trial, result: dict[str, float]) -> str:
        number = trial.config["number"]
        if self._objective not in result:
            return TrialScheduler.CONTINUE
        epoch, value = int(result["epoch"]), result[self._objective]
        at = f"{self._objective} {value:g} at epoch {epoch}"
        if not math.isfinite(value):
            self.decided[number] = (Kind.NON_FINITE, f"{self._objective} is {value} at epoch {epoch}")
            return TrialScheduler.STOP
        spared, last = bool(trial.config["baseline"]), bool(result.get("finished"))
        verdict = self._rule.verdict(number, epoch, value, spared=spared, last=last)
        if verdict is Verdict.GO_ON:
            return TrialScheduler.CONTINUE
        why = f"{at} is behind its rung" if verdict is Verdict.PRUNE else f"{at} waits at its rung"
        self.decided[number] = (verdict, why)
        return TrialScheduler.STOP


class _Teller(NotKept, tune.Callback):
    """Passes Tune's events on, with the state that the trial really ended in."""

    def __init__(self, listener: Listener, scheduler: Scheduler, guard: Guard) -> None:
        self._listener, self._scheduler, self._guard = listener, scheduler, guard
        self._broke: dict[int, Failure] = {}
        self._places: dict[int, str] = {}

    def setup(self, *given: Any, **info: Any) -> None:
        self._guard.hear_signals()  # now that Tune has put its own handler in place

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        number = trial.config["number"]
        if PLACE in result:
            self._places[number] = result[PLACE]
        if BROKE in result:
            kind, reason = result[BROKE]
            self._broke[number] = Failure(Kind(kind), reason)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._guard.call(self._ended, trial.config["number"])

    def _ended(self, number: int) -> None:
        metrics = self._scheduler.last.get(number, {})
        epoch = int(metrics.get("epoch", 0))
        verdict, reason = self._scheduler.decided.get(number, (None, ""))
        failure = self._broke.pop(number, None)
        if isinstance(verdict, Kind):
            failure = Failure(verdict, reason)
        if failure is not None:
            self._listener.broke(number, failure)
        elif verdict is Verdict.PRUNE:
            self._listener.pruned(number, reason)
        elif verdict is Verdict.PAUSE:
            self._listener.paused(number, epoch, reason)
        elif metrics.get("finished"):
            self._listener.complete(number, metrics)
        elif not self._guard.stopping():  # else it was stopped with the study, and goes on another time
            words = f"training ended after epoch {epoch} without final figures"
            self._listener.broke(number, Failure(Kind.ERROR, words))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["number"]
        if number in self._places:  # its workers died with it, but Ray keeps their place
            remove_placement_group(self._places.pop(number))
        words = f"the trial's driver was lost ({_reason(trial)})"
        self._guard.call(self._listener.broke, number, Failure(Kind.LOST, words))


class _Stop(NotKept, tune.Stopper):
    """Ends all trials when the study is to stop."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._guard.stopping()


def run(
    source: Source,
    listener: Listener,
    rule: Rule,
    metric: str,
    constants: Mapping[str, Any],
    folder: Path,
    at_once: int,
) -> None:
    """Run trials until the source is done, the listener is stopping, or SIGINT comes.

    What happens in a trial never raises here; an error of the source or of the listener does, once all trials stand.
    """
    _be_quiet()
    guard = Guard(listener)
    scheduler = Scheduler(listener, rule, metric, guard)
    tuner = tune.Tuner(
        tune.with_resources(TrialDriver, _resources(constants["workers"])),
        param_space=dict(constants),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(source, guard),
            scheduler=scheduler,
            num_samples=UNLIMITED,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['number']:04d}",
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04d}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            stop=_Stop(guard),
            callbacks=[_Teller(listener, scheduler, guard)],
            # The trial's own checkpoints are the recipe's business; Tune would ask for one at the end of each trial.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0, fail_fast=False),
        ),
    )
    try:
        tuner.fit()
    finally:
        if guard.error is not None:
            raise guard.error


def _resources(workers: Mapping[str, Any]) -> Any:
    """One worker is the driver itself; more have places of their own, and the driver is on the head node."""
    if workers["count"] > 1:
        return tune.PlacementGroupFactory([DRIVER_RESOURCES])
    gpus = {"GPU": workers["gpus"]} if workers["gpus"] else {}
    return tune.PlacementGroupFactory([{"CPU": workers["cpus"]} | gpus])


def _be_quiet() -> None:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _reason(trial: Trial) -> str:
    with contextlib.suppress(OSError, pickle.PickleError, TypeError, AttributeError):
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        return one_line(getattr(error, "cause", None) or error).split(". ")[0][:_LONGEST_REASON]
    return "it ended without a word"
