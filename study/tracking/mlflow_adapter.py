"""MLflow behind one class that applies changes to a store. With `mlflow_store` the only file that imports it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.config.study_file import StudyFile
from study.ledger.records import TrialState
from study.tracking.mlflow_store import brief, client_of, limit_requests, reachable, store_uri
from study.tracking.telling import EPOCH, Change, Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

PARENT = "mlflow.parentRunId"  # what MLflow's page nests runs by
STUDY, NUMBER = "study.id", "trial.number"
_STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.INTERRUPTED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FAILED",
}
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
# MLflow calls a database connection that was closed a bad request, and a run that is gone may be found anew.
_DOUBTFUL = {"BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}
_OUR_FAULT = (TypeError, ValueError, LookupError, AttributeError)  # trying again would not help
_MOST_DOUBTS = 3  # tries before such an answer counts as a refusal


class Store:
    """One experiment a study, one parent run, one nested run a trial; opened again it finds them all."""

    def __init__(self, study: StudyFile, folder: Path, study_id: str | None, began: float) -> None:
        """`study_id` tells this study from others of its name on a shared server; nothing is opened yet."""
        self.uri = store_uri(study.tracking, folder)
        self._name, self._folder, self._id, self._began = study.name, folder, study_id or study.name, began
        self._client: MlflowClient | None = None
        self._experiment = self._parent = ""
        self._runs: dict[int, str] = {}  # trial number -> run id
        self._told: dict[int, tuple[int, set[str]]] = {}  # what a run that was found had: last epoch, metrics
        self._fresh = False  # the runs are known
        self._unsure = False  # a run was asked for and no answer came: it may come to be yet
        self._doubts = 0
        self._warned: set[int | None] = set()

    def open(self) -> None:
        """Find the study's runs, unless they are known; whatever it raises says that the store does not answer."""
        if self._client is None:
            limit_requests()
            reachable(self.uri)  # because MLflow tries to open a database for an hour
            self._client = client_of(self.uri)
        if not self._fresh:
            self._experiment = self._find_experiment(self._client)
            self._parent = self._find_parent(self._client)
            self._find_trials(self._client)
            self._fresh = True

    def forget(self) -> None:
        """Look for the runs before the next change: a request failed, or another process wrote."""
        self._fresh = False

    def settle(self) -> None:
        """Where the answer to a create was lost, look once more for a run that came twice."""
        if self._unsure:
            self.forget()
            self.open()
            self._unsure = False

    def apply(self, change: Change, artifacts: list[Path]) -> None:
        """Tell a run what changed, again if it heard it before. It raises where the store does not answer.

        What the store refuses for good is left out, with one warning a run.
        """
        assert self._client is not None
        client, run_id = self._client, self._parent
        refused: list[Exception] = []
        with self._refusable(refused):
            if change.number is not None:
                run_id = self._runs.get(change.number) or self._create(client, change, change.number)
        if refused:  # without a run there is nothing to tell
            self._warn(change, refused)
            return
        self._log(client, run_id, change, refused)
        # The status before the files: a full disk must not leave a run that looks alive.
        with self._refusable(refused):
            self._set_state(client, run_id, change)
        for path in artifacts if change.artifacts else ():
            with self._refusable(refused, files=True):
                client.log_artifact(run_id, str(path))
        self._doubts = 0
        self._warn(change, refused)

    def _log(self, client: MlflowClient, run_id: str, change: Change, refused: list[Exception]) -> None:
        """All in one request; where that is refused, each part for itself, so that no part takes another along."""
        from mlflow.entities import Metric, Param, RunTag

        params = [Param(name, value) for name, value in change.params.items()]
        tags = [RunTag(name, value) for name, value in change.tags.items()]
        points = [
            Metric(point.name, point.value, round(point.time * 1000), point.step)
            for point in change.points
            if not self._has(change.number, point)
        ]
        whole: list[Exception] = []
        with self._refusable(whole):
            client.log_batch(run_id, metrics=points, params=params, tags=tags, synchronous=True)
        if whole:
            parts: list[dict[str, Any]] = [{"params": [each]} for each in params] + [
                {"metrics": [each]} for each in points
            ]
            for part in [*parts, {"tags": tags}]:
                with self._refusable(refused):
                    client.log_batch(run_id, **part, synchronous=True)

    def _set_state(self, client: MlflowClient, run_id: str, change: Change) -> None:
        if change.state is None:
            return
        status = _STATUS[change.state]
        if change.ended is not None:
            client.set_terminated(run_id, status, round(change.ended * 1000))
        else:
            client.update_run(run_id, status=status)

    def _has(self, number: int | None, point: Point) -> bool:
        """A run that was found may have heard of it, from an answer that was lost or from an older version."""
        epoch, names = self._told.get(number, (0, set())) if number is not None else (0, set())
        return point.name in names if point.final else point.step <= epoch

    @contextlib.contextmanager
    def _refusable(self, refused: list[Exception], files: bool = False) -> Iterator[None]:
        """A refusal goes to the list; every other error is raised, to be tried again."""
        try:
            yield
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            code = getattr(error, "error_code", None)
            if code in _DOUBTFUL:
                self._doubts += 1
            told_wrongly = isinstance(error, _OUR_FAULT) and not isinstance(error, OSError)
            lasting = code in _REFUSALS or told_wrongly or (files and _files_refused(error))
            if lasting or (code in _DOUBTFUL and self._doubts > _MOST_DOUBTS):
                refused.append(error)
                return
            raise

    def _warn(self, change: Change, refused: list[Exception]) -> None:
        if not refused or change.number in self._warned:
            return
        self._warned.add(change.number)
        run = self._name if change.number is None else f"trial {change.number:04d}"
        logger.warning("tracking: %s refused a part of %s (%s); it is left out", self.uri, run, brief(refused[0]))

    def _create(self, client: MlflowClient, change: Change, number: int) -> str:
        tags = {PARENT: self._parent, NUMBER: str(number), "mlflow.source.name": "decred-study"}
        self._runs[number] = self._create_run(client, change.name, tags, change.started)
        return self._runs[number]

    def _create_run(self, client: MlflowClient, name: str, tags: dict[str, str], started: float) -> str:
        sure, self._unsure = self._unsure, True
        run = client.create_run(self._experiment, start_time=round(started * 1000), tags=tags, run_name=name)
        self._unsure = sure
        return run.info.run_id

    def _find_experiment(self, client: MlflowClient) -> str:
        experiment = client.get_experiment_by_name(self._name)
        if experiment is None:
            # A server knows where its artifacts go; a bare database would put them into the current folder.
            artifacts = None if self.uri.startswith("http") else (self._folder.resolve() / "artifacts").as_uri()
            return client.create_experiment(self._name, artifact_location=artifacts)
        if experiment.lifecycle_stage != "active":
            raise ValueError(f"its experiment '{self._name}' was deleted; restore it or rename the study")
        return experiment.experiment_id

    def _find_parent(self, client: MlflowClient) -> str:
        runs = _runs(client, self._experiment, f"tags.`{STUDY}` = '{self._id}'")
        if runs:
            return _only(client, sorted(runs, key=lambda run: "study.status" not in run.data.tags)).info.run_id
        tags = {STUDY: self._id, "mlflow.source.name": "decred-study"}
        return self._create_run(client, self._name, tags, self._began)

    def _find_trials(self, client: MlflowClient) -> None:
        found: dict[int, list[Run]] = {}
        for run in _runs(client, self._experiment, f"tags.`{PARENT}` = '{self._parent}'"):
            found.setdefault(int(run.data.tags[NUMBER]), []).append(run)
        self._runs, self._told = {}, {}
        for number, runs in found.items():
            run = _only(client, sorted(runs, key=lambda run: not run.data.params))
            self._runs[number] = run.info.run_id
            self._told[number] = (int(run.data.tags.get(EPOCH, 0)), set(run.data.metrics))


def _only(client: MlflowClient, runs: list[Run]) -> Run:
    """The first; the others, which a lost answer left behind, are deleted where they are empty."""
    for run in runs[1:]:
        if not (run.data.params or run.data.metrics or "study.status" in run.data.tags):
            client.delete_run(run.info.run_id)
    return runs[0]


def _runs(client: MlflowClient, experiment: str, query: str) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _files_refused(error: Exception) -> bool:
    """A file that is gone or a place that cannot be written stays so; a full disk and a silent server do not."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 425, 429)
    lasting = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
    return isinstance(error, lasting) or not (isinstance(error, OSError) or hasattr(error, "error_code"))
