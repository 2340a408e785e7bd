"""A stand-in for `mlflow.MlflowClient` on a database, in memory, whose requests fail on demand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from types import SimpleNamespace
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.store.entities import PagedList


@dataclass
class FakeRun:
    """A run as MLflow's tables hold it; `rows` are (name, step, value as text, Unix milliseconds)."""

    id: str
    name: str
    start_time: int
    tags: dict[str, str]
    status: str = "RUNNING"
    end_time: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    rows: set[tuple[str, int, str, int]] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    inputs: dict[tuple[str, str], Any] = field(default_factory=dict)  # datasets by name and digest

    def entity(self) -> Any:
        """As the client returns it."""
        info = SimpleNamespace(run_id=self.id, run_name=self.name, status=self.status, end_time=self.end_time)
        metrics = {name: 0.0 for name, *_ in self.rows}
        data = SimpleNamespace(tags=dict(self.tags), params=self.params, metrics=metrics)
        return SimpleNamespace(info=info, data=data, inputs=SimpleNamespace(dataset_inputs=list(self.inputs.values())))


def _request(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def send(self: FakeClient, *args: Any, **kwargs: Any) -> Any:
        self.requests.append(method.__name__)
        fault = next(self.faults, "")
        if fault == "late" and method.__name__ == "create_run":
            self._late.append(lambda: method(self, *args, **kwargs))
        if fault in ("lost request", "late"):
            raise ConnectionError(fault)
        result = method(self, *args, **kwargs)
        while self._late and method.__name__ == "create_run":
            self._late.pop()()
        if fault == "lost answer":
            raise ConnectionError(fault)
        return result

    return send


class FakeClient:
    """What study.tracking uses of the client.

    `faults` gives, for each request, "", "lost request", "lost answer" or, of a run that is made behind the next one,
    "late".
    """

    def __init__(self) -> None:
        self.faults: Iterator[str] = iter(())
        self.requests: list[str] = []
        self.runs: dict[str, FakeRun] = {}
        self.deleted: dict[str, FakeRun] = {}
        self.experiment: str | None = None
        self.experiment_tags: dict[str, str] = {}
        self._late: list[Callable[[], Any]] = []
        self._ids = (f"run-{number}" for number in itertools.count())

    @_request
    def get_experiment_by_name(self, name: str) -> Any:
        return self.experiment and SimpleNamespace(
            experiment_id="1", lifecycle_stage="active", tags=dict(self.experiment_tags)
        )

    @_request
    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        self.experiment = name
        return "1"

    @_request
    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        if len(value) > 20_000:
            raise MlflowException("too long", INVALID_PARAMETER_VALUE)
        self.experiment_tags[key] = value

    @_request
    def log_inputs(self, run_id: str, datasets: list[Any]) -> None:
        for given in datasets:
            self._active(run_id).inputs.setdefault((given.dataset.name, given.dataset.digest), given)

    @_request
    def search_runs(self, experiments: list[str], query: str, max_results: int, page_token: str | None) -> Any:
        tag, value = query.removeprefix("tags.`").removesuffix("'").split("` = '")
        found = [run.entity() for run in self.runs.values() if run.tags.get(tag) == value]
        start = int(page_token or 0)
        end = start + min(max_results, 3)  # so that a few runs are several pages
        return PagedList(found[start:end], str(end) if end < len(found) else None)

    @_request
    def get_run(self, run_id: str) -> Any:
        return (self.runs | self.deleted)[run_id].entity()

    @_request
    def create_run(self, experiment: str, start_time: int, tags: dict[str, str], run_name: str) -> Any:
        run = FakeRun(next(self._ids), run_name, start_time, dict(tags))
        self.runs[run.id] = run
        return run.entity()

    @_request
    def delete_run(self, run_id: str) -> None:
        self.deleted[run_id] = self.runs.pop(run_id)

    @_request
    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        rows = self.runs[run_id].rows
        return [Metric(name, float(value), time, step) for name, step, value, time in rows if name == key]

    @_request
    def log_batch(
        self,
        run_id: str,
        metrics: list[Metric] = [],  # noqa: B006
        params: list[Param] = [],  # noqa: B006
        tags: list[RunTag] = [],  # noqa: B006
        synchronous: bool = True,
    ) -> None:
        """Params, metrics and tags are transactions of their own, in this order, as in MLflow's database store."""
        run = self._active(run_id)
        if len(metrics) + len(params) + len(tags) > 1000:
            raise MlflowException("too many", INVALID_PARAMETER_VALUE)
        for param in params:
            if run.params.setdefault(param.key, param.value) != param.value:
                raise MlflowException("a param cannot be changed", INVALID_PARAMETER_VALUE)
        run.rows |= {(metric.key, metric.step, str(metric.value), metric.timestamp) for metric in metrics}
        if next(self.faults, "") == "lost request":  # between two transactions
            raise ConnectionError("cut off")
        run.tags |= {tag.key: tag.value for tag in tags}

    @_request
    def update_run(self, run_id: str, status: str) -> None:
        self._active(run_id).status = status

    @_request
    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        run = self._active(run_id)
        run.status, run.end_time = status, end_time

    @_request
    def log_artifact(self, run_id: str, path: str) -> None:
        self._active(run_id).files.add(path)

    def _active(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise MlflowException(f"The run {run_id} must be in the 'active' state.", INVALID_PARAMETER_VALUE)
        return self.runs[run_id]
