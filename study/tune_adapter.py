"""Ray Tune, entered here and nowhere else: it runs the trials that a proposer proposes and tells how each one ended.

Tune decides nothing about the search. Our searcher hands over proposals, our scheduler is ASHA on the project's
own epoch, and a callback passes what happens to whoever listens.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.trial import TrainRun

DRIVER_RESOURCES = {"node:__internal_head__": 0.001}  # no CPU: the workers need them all
BEYOND_LAST_EPOCH = 10**6
REPORT = "report"


class Listener(Protocol):
    """Who is told of every trial: what an epoch gave, and how it ended."""

    def epoch(self, number: int, metrics: dict[str, float]) -> None: ...

    def ended(self, number: int, state: str, reason: str | None, metrics: dict[str, float]) -> None: ...


@dataclass
class Rule:
    """When a trial is stopped early; `grace_epochs` None never stops one."""

    metric: str
    mode: str
    grace_epochs: int | None
    reduction: int = 3
    seen: Mapping[int, Mapping[int, float]] = field(default_factory=dict)  # number -> epoch -> value, earlier sessions


class _NotKept:
    """Tune pickles what it is given into snapshots that nobody reads: the ledger is what a study goes on from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Searcher(_NotKept, Searcher):
    """Hands over one proposal after the other as a trial's config."""

    def __init__(self, propose: Callable[[], dict[str, Any] | None]) -> None:
        super().__init__()
        self._propose = propose

    def suggest(self, trial_id: str) -> Any:
        config = self._propose()
        return Searcher.FINISHED if config is None else config

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The callback tells how a trial ended; Tune does not say here whether ASHA stopped it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record that a study goes on from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see save."""


class EarlyStopping(AsyncHyperBandScheduler):
    """ASHA that spares baselines and finishing trials, stops a trial whose objective is no number, and keeps why."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(
            time_attr="epoch",
            metric=rule.metric,
            mode=rule.mode,
            max_t=BEYOND_LAST_EPOCH,
            grace_period=rule.grace_epochs or BEYOND_LAST_EPOCH,
            reduction_factor=rule.reduction,
            # False also lets a rung count once only, so that a trial that goes on at epoch 5 is not put into rung 1.
            stop_last_trials=False,
        )
        self.decided: dict[int, tuple[str, str]] = {}  # number -> (state, reason)
        for number, values in sorted(rule.seen.items()):
            for epoch, value in sorted(values.items()):
                self._behind(number, epoch, value)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        number, epoch, value = trial.config["number"], result.get("epoch"), result.get(self._metric)
        if epoch is None or value is None or result.get("done"):
            return TrialScheduler.CONTINUE
        if not math.isfinite(value):
            self.decided[number] = ("failed", f"{self._metric} is {value} at epoch {epoch:g}")
            return TrialScheduler.STOP
        behind = self._behind(number, epoch, value)
        if not behind or result.get("finished") or trial.config["baseline"]:
            return TrialScheduler.CONTINUE
        self.decided[number] = ("pruned", f"{self._metric} {value:g} at epoch {epoch:g} is behind its rung")
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict) -> None:
        self._trial_info.pop(trial.trial_id, None)
        if result.get("finished") and self._metric in result:  # Tune asks no scheduler about a trial's last result
            self._behind(trial.config["number"], result["epoch"], result[self._metric])

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._trial_info.pop(trial.trial_id, None)

    def _behind(self, number: int, epoch: float, value: float) -> bool:
        if not math.isfinite(value):
            return False
        # Rungs know a trial by the study's number, which stays the same when a study goes on.
        known: Any = SimpleNamespace(trial_id=f"{number:04d}")
        assert self._metric_op is not None
        return self._brackets[0].on_result(known, int(epoch), self._metric_op * value) == TrialScheduler.STOP


class TrialDriver(tune.Trainable):
    """Tune's side of a trial: one step is one report of its Ray Train run. One process drives trial after trial."""

    def setup(self, config: dict) -> None:
        self._run: TrainRun | None = None

    def step(self) -> dict[str, Any]:
        if self._run is None:
            self._run = TrainRun(self.config)
        report = self._run.next_report()
        if report is None:
            return {"done": True}
        if report.get("finished"):
            self._run.next_report()  # a trial is complete when its workers have ended well, and not before
            return _result(report) | {"done": True}
        return _result(report)

    def cleanup(self) -> None:
        if self._run is not None:
            self._run.abort()
            self._run = None

    def reset_config(self, new_config: dict) -> bool:
        self.cleanup()
        return True


class _Teller(_NotKept, tune.Callback):
    """Passes Tune's events on, with the state that the trial really ended in."""

    def __init__(self, listener: Listener, scheduler: EarlyStopping) -> None:
        self._listener = listener
        self._scheduler = scheduler
        self._last: dict[int, dict[str, float]] = {}

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        if REPORT not in result:
            return
        number, metrics = trial.config["number"], result[REPORT]
        self._last[number] = metrics
        self._listener.epoch(number, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["number"]
        metrics = self._last.get(number, {})
        state, reason = self._scheduler.decided.get(number, (None, None))
        if state is None and metrics.get("finished"):
            state = "complete"
        elif state is None:
            state, reason = "failed", f"training ended after epoch {metrics.get('epoch', 0):g} without final figures"
        self._listener.ended(number, state, reason, metrics)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = trial.config["number"]
        self._listener.ended(number, "failed", _reason(trial), self._last.get(number, {}))


def run(
    propose: Callable[[], dict[str, Any] | None],
    listener: Listener,
    rule: Rule,
    constants: Mapping[str, Any],
    folder: Path,
    trials: int,
    concurrency: int,
) -> None:
    """Run up to `trials` trials, or until SIGINT. What happens in a trial never raises here."""
    _be_quiet()
    scheduler = EarlyStopping(rule)
    tuner = tune.Tuner(
        tune.with_resources(TrialDriver, tune.PlacementGroupFactory([DRIVER_RESOURCES])),
        param_space=dict(constants),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(propose),
            scheduler=scheduler,
            num_samples=trials,
            max_concurrent_trials=concurrency,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['number']:04d}",
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04d}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            verbose=0,
            callbacks=[_Teller(listener, scheduler)],
            # The trial's own checkpoints are the recipe's business; Tune would ask for one at the end of each trial.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0, fail_fast=False),
        ),
    )
    tuner.fit()


def _be_quiet() -> None:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _result(report: dict[str, float]) -> dict[str, Any]:
    """The report twice: flat for the scheduler, and whole, because Tune mixes its own figures into the flat one."""
    return report | {REPORT: report}


def _reason(trial: Trial) -> str:
    with contextlib.suppress(OSError, pickle.PickleError, TypeError, AttributeError):
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        error = getattr(error, "cause", None) or error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return "the trial's driver ended without a word"
