"""MLflow behind one class: a view of the study that never gets in its way. The only file that imports it."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from model.errors import UserError
from study.mlflow_store import brief, client_of, patience, store_uri
from study.trial_record import State, TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from study.optuna_adapter import Proposal

logger = logging.getLogger(__name__)

PARENT = "mlflow.parentRunId"  # what MLflow's page nests runs by
STUDY, NUMBER, STATE, REASON, EPOCH = "study.id", "trial.number", "trial.state", "trial.reason", "trial.epoch"
_STATUS = {State.RUNNING: "RUNNING", State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.INTERRUPTED: "KILLED"}
_CALL_PATIENCE = 10  # seconds that a tracking call may hold up a study
_MOST_REASON = 5000  # characters that MLflow takes in a tag

P = ParamSpec("P")
T = TypeVar("T", bound="Tracker")


def _never_in_the_way(
    method: Callable[Concatenate[T, P], None],
) -> Callable[Concatenate[T, P], None]:
    """Tracking is a view: when a call fails, one line says so and the study goes on."""

    @functools.wraps(method)
    def guarded(self: T, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with patience(_CALL_PATIENCE):
                method(self, *args, **kwargs)
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            logger.warning("tracking: %s was not recorded in %s (%s)", method.__name__, self.uri, brief(error))

    return guarded


class Tracker:
    """One experiment a study, one parent run, one nested run a trial; opened again it finds them all."""

    def __init__(self, uri: str | None, study_name: str, folder: Path, study_id: str | None = None) -> None:
        """`study_id` tells this study from others of its name on a shared server."""
        self.uri = store_uri(uri, folder)
        self._study_id = study_id or study_name
        self._trials: dict[int, str] = {}  # trial number -> run id
        self._last_epoch: dict[int, int] = {}
        self._ended: set[int] = set()  # trials whose run has their end
        try:
            with patience(_CALL_PATIENCE):
                self._client = client_of(self.uri)
                self._experiment = _experiment(self._client, study_name, _artifacts(self.uri, folder))
                self._parent = self._find_parent() or self._create_parent(study_name)
                self._find_trials()
        except Exception as error:  # as above; this one is met before anything ran
            raise UserError(f"tracking {self.uri} cannot be opened ({brief(error)}); correct 'tracking'") from None

    @_never_in_the_way
    def trial_started(self, proposal: Proposal) -> None:
        self._start(proposal.number, proposal.baseline, {**proposal.values, "recipe_hash": proposal.recipe.hash})

    @_never_in_the_way
    def recorded(self, record: TrialRecord, artifacts: Sequence[Path] = ()) -> None:
        """A trial that has ended, whole, from the ledger; nothing where its run has heard of the end already."""
        if record.number in self._ended:
            return
        params = {**record.values, "recipe_hash": record.recipe_hash}
        self._start(record.number, record.baseline, {name: value for name, value in params.items() if value != ""})
        for epoch in record.epochs:
            self._epoch(record.number, int(epoch["epoch"]), {name: epoch[name] for name in epoch if name != "epoch"})
        last = record.epochs[-1] if record.epochs else {}
        final = {name: value for name, value in record.metrics.items() if name not in last}
        self._end(record.number, record.state, record.reason, final, artifacts)

    @_never_in_the_way
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """One point of every curve. An epoch that was already recorded, before a resume, is not recorded twice."""
        self._epoch(number, epoch, metrics)

    def _start(self, number: int, baseline: str | None, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        run_id = self._run(number, baseline)
        self._client.update_run(run_id, status="RUNNING")
        named = {**params, "baseline": baseline} if baseline else params
        self._client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in named.items()],
            tags=[RunTag(STATE, State.RUNNING.value)],
        )

    def _epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import RunTag

        if epoch <= self._last_epoch.get(number, 0):
            return
        tags = [RunTag(EPOCH, str(epoch))]
        self._client.log_batch(self._run(number), metrics=_metrics(metrics, epoch), tags=tags)
        self._last_epoch[number] = epoch

    @_never_in_the_way
    def trial_ended(
        self,
        number: int,
        state: State,
        reason: str | None = None,
        metrics: Mapping[str, float] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """`metrics` are final ones, beyond the last epoch's: the figures of the test sets."""
        self._end(number, state, reason, metrics or {}, artifacts)

    def _end(
        self, number: int, state: State, reason: str | None, metrics: Mapping[str, float], artifacts: Sequence[Path]
    ) -> None:
        from mlflow.entities import RunTag

        run_id = self._run(number)
        tags = [RunTag(STATE, state.value), RunTag(REASON, (reason or "")[:_MOST_REASON])]
        self._client.log_batch(run_id, metrics=_metrics(metrics, self._last_epoch.get(number, 0)), tags=tags)
        # The status before the files: a full disk must not leave a run that looks alive.
        self._client.set_terminated(run_id, _STATUS.get(state, "FAILED"))
        for path in artifacts:
            self._client.log_artifact(run_id, str(path))

    @_never_in_the_way
    def study_ended(self, status: str, best: TrialRecord | None = None) -> None:
        """`status` is complete, interrupted or failed."""
        self._client.set_tag(self._parent, "study.status", status)
        if best is not None:
            self._client.set_tag(self._parent, "study.best_trial", best.number)
            self._client.set_tag(self._parent, "study.best_recipe_hash", best.recipe_hash)
        self._client.set_terminated(self._parent, _STATUS.get(_state(status), "FAILED"))

    def _run(self, number: int, baseline: str | None = None) -> str:
        """The trial's run, made at its first mention."""
        if number not in self._trials:
            name = f"{number:04d} {baseline}" if baseline else f"{number:04d}"
            tags = {PARENT: self._parent, NUMBER: str(number), "mlflow.source.name": "decred-study"}
            run = self._client.create_run(self._experiment, tags=tags, run_name=name)
            self._trials[number] = run.info.run_id
        return self._trials[number]

    def _find_parent(self) -> str | None:
        runs = _runs(self._client, self._experiment, f"tags.`{STUDY}` = '{self._study_id}'")
        if not runs:
            return None
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id

    def _create_parent(self, study_name: str) -> str:
        tags = {STUDY: self._study_id, "mlflow.source.name": "decred-study"}
        return self._client.create_run(self._experiment, tags=tags, run_name=study_name).info.run_id

    def _find_trials(self) -> None:
        for run in _runs(self._client, self._experiment, f"tags.`{PARENT}` = '{self._parent}'"):
            number = int(run.data.tags[NUMBER])
            self._trials[number] = run.info.run_id
            self._last_epoch[number] = int(run.data.tags.get(EPOCH, 0))
            if run.info.status != "RUNNING" and _state(run.data.tags.get(STATE, State.RUNNING)).final:
                self._ended.add(number)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=artifacts)
    if experiment.lifecycle_stage != "active":
        raise ValueError(f"its experiment '{name}' was deleted; restore it or rename the study")
    return experiment.experiment_id


def _artifacts(uri: str, folder: Path) -> str | None:
    """A server knows where its artifacts go; a bare database would put them into the current folder."""
    return None if uri.startswith("http") else (folder.resolve() / "artifacts").as_uri()


def _runs(client: MlflowClient, experiment: str, query: str) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _metrics(metrics: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, step) for name, value in metrics.items()]


def _state(status: str) -> State:
    return State(status) if status in set(State) else State.FAILED
