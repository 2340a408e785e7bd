"""MLflow behind one class: a view of the study that never gets in its way. The only file that imports it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlparse

from model.errors import UserError
from study.trial_record import State, TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from study.optuna_adapter import Proposal

logger = logging.getLogger(__name__)

PARENT = "mlflow.parentRunId"  # what MLflow's page nests runs by
STUDY, NUMBER, STATE, REASON, EPOCH = "study.id", "trial.number", "trial.state", "trial.reason", "trial.epoch"
_STATUS = {State.RUNNING: "RUNNING", State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.INTERRUPTED: "KILLED"}
_CHECK_PATIENCE = 3  # seconds for a server to answer before a study starts
_CALL_PATIENCE = 10  # seconds that a tracking call may hold up a study
_MOST_REASON = 5000  # characters that MLflow takes in a tag
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

P = ParamSpec("P")
T = TypeVar("T", bound="Tracker")


def _never_in_the_way(
    method: Callable[Concatenate[T, P], None],
) -> Callable[Concatenate[T, P], None]:
    """Tracking is a view: when a call fails, one line says so and the study goes on."""

    @functools.wraps(method)
    def guarded(self: T, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _patience(_CALL_PATIENCE):
                method(self, *args, **kwargs)
        except Exception as error:  # MLflow, its database and its HTTP client each raise their own
            logger.warning("tracking: %s was not recorded in %s (%s)", method.__name__, self.uri, _brief(error))

    return guarded


class Tracker:
    """One experiment a study, one parent run, one nested run a trial; opened again it finds them all."""

    def __init__(self, uri: str | None, study_name: str, folder: Path, study_id: str | None = None) -> None:
        """`study_id` tells this study from others of its name on a shared server."""
        self.uri = store_uri(uri, folder)
        self._study_id = study_id or study_name
        self._trials: dict[int, str] = {}  # trial number -> run id
        self._last_epoch: dict[int, int] = {}
        try:
            with _patience(_CALL_PATIENCE):
                self._client = _client(self.uri)
                self._experiment = _experiment(self._client, study_name, _artifacts(self.uri, folder))
                self._parent = self._find_parent() or self._create_parent(study_name)
                self._find_trials()
        except Exception as error:  # as above; this one is met before anything ran
            raise UserError(f"tracking {self.uri} cannot be opened ({_brief(error)}); correct 'tracking'") from None

    @_never_in_the_way
    def trial_started(self, proposal: Proposal) -> None:
        from mlflow.entities import Param, RunTag

        run_id = self._run(proposal.number, proposal.baseline)
        self._client.update_run(run_id, status="RUNNING")
        params = {**proposal.values, "recipe_hash": proposal.recipe.hash}
        if proposal.baseline:
            params["baseline"] = proposal.baseline
        self._client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(STATE, State.RUNNING.value)],
        )

    @_never_in_the_way
    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """One point of every curve. An epoch that was already recorded, before a resume, is not recorded twice."""
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
        from mlflow.entities import RunTag

        run_id = self._run(number)
        tags = [RunTag(STATE, state.value), RunTag(REASON, (reason or "")[:_MOST_REASON])]
        self._client.log_batch(run_id, metrics=_metrics(metrics or {}, self._last_epoch.get(number, 0)), tags=tags)
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


def store_uri(uri: str | None, folder: Path) -> str:
    """Where a study's runs are kept: `uri`, or SQLite in the study folder."""
    return uri or f"sqlite:///{folder.resolve()}/mlflow.db"


def check_uri(uri: str) -> None:
    """Refuse, within seconds, a tracking URI that nothing answers at."""
    parts = urlparse(uri)
    scheme = parts.scheme.split("+")[0]
    if scheme not in ("http", "https", *_DATABASES):
        raise UserError(
            f"tracking is '{uri}', but must be a server (http://host:port) or a database (sqlite:///file.db, "
            "postgresql://...); correct it, or leave it out for SQLite in the study folder"
        )
    if scheme == "sqlite":
        folder = Path(parts.path.removeprefix("/") or ".").parent
        if not folder.is_dir():
            raise UserError(f"tracking is '{uri}', but the folder {folder} does not exist; make it or correct the path")
        return
    try:
        port = parts.port or {"http": 80, "https": 443, "mysql": 3306}.get(scheme, 5432)
        socket.create_connection((parts.hostname or "localhost", port), _CHECK_PATIENCE).close()
        if scheme in ("http", "https"):
            with _patience(_CHECK_PATIENCE):
                _client(uri).search_experiments(max_results=1)
    except Exception as error:  # sockets, MLflow and its HTTP client each raise their own
        raise UserError(
            f"tracking {uri} does not answer ({_brief(error)}); start the server, correct the URI, "
            "or leave it out for SQLite in the study folder"
        ) from None


def ui_command(uri: str, host: str, port: int) -> list[str]:
    """The command that opens MLflow's page on a store."""
    if uri.startswith("http"):
        raise UserError(f"tracking is {uri}, which is a server with a page of its own; open it in a browser")
    return [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]


def _client(uri: str) -> MlflowClient:
    # MLflow sends usage figures to its makers unless told not to before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # here because it takes seconds, which `--help` should not cost

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)


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


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """MLflow waits two minutes and tries seven times by default, and reads these variables at every request."""
    limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
