"""The runs of a study in MLflow: found, compared with what they must hold, and brought to it.

An update can be repeated at any time: what a run holds is left alone, and a point that is sent twice is one row.
A run that holds what its trial no longer has is replaced, because MLflow can neither change a param nor delete a point.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.tracking.mlflow_store import artifact_location, connect, forget_place
from study.tracking.refusals import Refusals
from study.tracking.run_content import NOTE, Point, RunContent, list_files
from study.tracking.run_extras import make_dataset_input, make_trial_note

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"  # by which MLflow's page nests runs
STUDY, NUMBER = "study.id", "trial.number"
FINGERPRINT = "sync.fingerprint"  # of the content that a run holds as a whole
_ITEMS = attrgetter("items")
_MAX_POINTS = 800  # of the thousand things that MLflow takes in one request
_MAX_FOUND = 100  # runs that are read at a time, with all that they hold


@dataclass(frozen=True)
class _Held:
    """What a run holds; by default a new one."""

    params: Mapping[str, str] = field(default_factory=dict)
    points: Set[Point] = frozenset()  # of every metric, those too that are not in its content, or not yet
    status: str = "RUNNING"
    has_note: bool = False  # it is the people's own, and never changed where there is one
    digests: Set[str] = frozenset()  # of the corpora among its inputs

    def can_become(self, content: RunContent) -> bool:
        """Whether nothing has to be changed or deleted; metrics and params that others logged are left alone.

        The study's own run is never replaced, because it is the parent of all others.
        """
        if content.number is None:
            return True
        differs = any(self.params.get(name, value) != value for name, value in content.params.items())
        names = {name for name, _, _ in content.points}
        return not differs and {point for point in self.points if point[0] in names} <= content.points.keys()

    def after(self, content: RunContent) -> _Held:
        """What the run holds once it was brought to its content."""
        digests = self.digests if content.corpus is None else self.digests | {content.corpus.digest}
        points = self.points | content.points.keys()
        return _Held({**self.params, **content.params}, points, content.status, True, digests)


@dataclass
class _Run:
    """A run in MLflow. `items` counts what was found in it; 0 is a run that was made, and nothing else."""

    id: str
    fingerprint: str = ""
    items: int = 0
    held: _Held | None = None  # None where it has to be read


class MlflowRuns:
    """One experiment a study, one parent run, one nested run a trial; each known by its trial's number, or None."""

    def __init__(self, uri: str, study: str, study_id: str, folder: Path, artifacts: str | None = None) -> None:
        """`study_id` distinguishes this study from others of its name on a shared server; nothing is opened yet.

        `artifacts` is a URL for the files of a new experiment; by default they are in `folder`.
        """
        self.uri = uri
        self.may_have_duplicates = False  # a run was asked for and no answer came, so it may still be made
        self._study, self._study_id, self._folder, self._artifacts = study, study_id, folder, artifacts
        self._experiment: str | None = None
        self._views: dict[str, str] = {}  # tags of the experiment, as far as they are known
        self._runs: dict[int | None, _Run] = {}
        self._duplicates: list[str] = []  # empty runs beside another one of the same trial
        self._refusals = Refusals(uri)

    @cached_property
    def _client(self) -> MlflowClient:
        return connect(self.uri)

    @property
    def fingerprints(self) -> dict[int | None, str]:
        """Of what the runs hold, as they were found or written last."""
        return {number: run.fingerprint for number, run in self._runs.copy().items()}

    def load(self, trust: bool = True) -> None:
        """Find the study's runs; nothing is changed. Raises what MLflow raises.

        `trust`: take their fingerprints for what they hold; else no run counts as up to date.
        """
        experiment = self._client.get_experiment_by_name(self._study)
        if experiment is not None and experiment.lifecycle_stage != "active":
            raise ValueError(f"its experiment '{self._study}' was deleted; restore it or rename the study")
        self._experiment = experiment.experiment_id if experiment else None
        self._views = dict(experiment.tags) if experiment else {}
        found: dict[int | None, list[_Run]] = defaultdict(list)
        for run in self._search(f"tags.`{STUDY}` = '{self._study_id}'"):
            found[None].append(_make_entry(run, trust))
        if found:
            parent = max(found[None], key=_ITEMS)
            for run in self._search(f"tags.`{PARENT}` = '{parent.id}'"):
                if run.data.tags.get(NUMBER, "").isdigit():  # others are not ours
                    found[int(run.data.tags[NUMBER])].append(_make_entry(run, trust))
        self._runs = {number: max(runs, key=_ITEMS) for number, runs in found.items()}
        used = {run.id for run in self._runs.values()}
        self._duplicates = [run.id for runs in found.values() for run in runs if not run.items and run.id not in used]

    def prepare(self, study: RunContent) -> None:
        """Make the experiment and the study's own run where they are missing; delete runs that were made twice."""
        for duplicate in self._duplicates:
            self._client.delete_run(duplicate)
        self._duplicates = []
        if self._experiment is None:
            artifacts = artifact_location(self.uri, self._folder, self._artifacts)
            self._experiment = self._client.create_experiment(self._study, artifact_location=artifacts)
        if None not in self._runs:
            self._create(study)

    def update(self, content: RunContent) -> None:
        """Bring a run to its content.

        Raises where the store does not answer. What it refuses is left out, with one warning a run.
        """
        self._refusals.errors = []
        with self._refusals.collect():
            run, held = self._open(content)
            self._write(run.id, content, held)
            self._save_views(content.views)
            run.fingerprint = content.fingerprint
            # What a run holds that has ended is not kept in memory; it hardly ever changes.
            run.held = None if content.ended else held.after(content)
        self._refusals.report("the study" if content.number is None else f"trial {content.number:04d}")

    def _open(self, content: RunContent) -> tuple[_Run, _Held]:
        """The run to write to and what it holds: a new one where there is none that can become its content."""
        run = self._runs.get(content.number)
        if run is None:
            return self._create(content), _Held()
        held = run.held or self._read(run.id)
        if held.can_become(content):
            return run, held
        # What people noted on its page goes along; the old run stays in MLflow's trash.
        tags = self._client.get_run(run.id).data.tags
        ours = {PARENT, STUDY, NUMBER, FINGERPRINT, "mlflow.runName", *content.tags}
        self._client.delete_run(run.id)
        theirs = {name: tags[name] for name in tags.keys() - ours}
        return self._create(content, theirs), _Held(has_note=NOTE in theirs)

    def _create(self, content: RunContent, tags: Mapping[str, str] | None = None) -> _Run:
        own = {STUDY: self._study_id}
        if content.number is not None:
            own = {PARENT: self._runs[None].id, NUMBER: str(content.number)}
        own |= {"mlflow.source.name": "decred-study", **(tags or {})}
        before, self.may_have_duplicates = self.may_have_duplicates, True
        made = self._client.create_run(str(self._experiment), content.started, own, content.name)
        self.may_have_duplicates = before
        run = self._runs[content.number] = _Run(made.info.run_id)
        return run

    def _read(self, run_id: str) -> _Held:
        run = self._client.get_run(run_id)
        rows = [row for name in run.data.metrics for row in self._client.get_metric_history(run_id, name)]
        points = {(row.key, row.step, row.timestamp) for row in rows}
        digests = {given.dataset.digest for given in run.inputs.dataset_inputs}
        return _Held(run.data.params, points, run.info.status, NOTE in run.data.tags, digests)

    def _write(self, run_id: str, content: RunContent, held: _Held) -> None:
        """Send what the run lacks. A run has a fingerprint while it is whole, and none while more requests follow."""
        params = {name: value for name, value in content.params.items() if name not in held.params}
        points = {point: value for point, value in content.points.items() if point not in held.points}
        fingerprint, tags = {FINGERPRINT: content.fingerprint}, dict(content.tags)
        if content.number is not None and not held.has_note:
            tags[NOTE] = make_trial_note(content.tried, self._study, str(self._experiment), self._runs[None].id)
        if content.corpus is not None and content.corpus.digest not in held.digests:
            with self._refusals.collect():
                self._client.log_inputs(run_id, [make_dataset_input(content.corpus)])
        if content.ended is None and content.status == held.status:
            self._log(run_id, params, points, tags | fingerprint)
            return
        self._log(run_id, params, points, {FINGERPRINT: ""} | tags)
        with self._refusals.collect():  # before the files: a full disk must not leave a run that looks alive
            if content.ended is not None:
                self._client.set_terminated(run_id, content.status, content.ended)
            else:  # MLflow cannot take an end time back: a run that continues keeps its last one until it ends again
                self._client.update_run(run_id, content.status)
        for path in list_files(self._folder, content):
            with self._refusals.collect(of_file=True):
                self._client.log_artifact(run_id, str(path))
        forget_place(run_id)
        self._log(run_id, {}, {}, fingerprint)

    def _save_views(self, views: Mapping[str, str]) -> None:
        """Bring the experiment's views to these; a refusal costs them alone, and the page is a plain one."""
        for name, value in views.items():
            if self._views.get(name) != value:
                with self._refusals.collect():
                    self._client.set_experiment_tag(str(self._experiment), name, value)
                    self._views[name] = value

    def _log(
        self, run_id: str, params: Mapping[str, str], points: Mapping[Point, float], tags: Mapping[str, str]
    ) -> None:
        """Send in few requests, the tags last; of a request that is refused, each part is sent for itself."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(name, value, time, epoch) for (name, epoch, time), value in points.items()]
        for start in range(0, max(1, len(metrics)), _MAX_POINTS):
            batch: dict[str, list[Any]] = {
                "params": [Param(*item) for item in params.items() if start == 0],
                "metrics": metrics[start : start + _MAX_POINTS],
                "tags": [RunTag(*item) for item in tags.items() if start + _MAX_POINTS >= len(metrics)],
            }
            try:
                self._client.log_batch(run_id, **batch, synchronous=True)
            except Exception as error:
                if not self._refusals.is_refusal(error):
                    raise
                for kind, part in [(kind, part) for kind, parts in batch.items() for part in parts]:
                    with self._refusals.collect():
                        self._client.log_batch(run_id, **{kind: [part]}, synchronous=True)

    def _search(self, query: str) -> Iterator[Run]:
        token = None
        while self._experiment is not None:
            page = self._client.search_runs([self._experiment], query, max_results=_MAX_FOUND, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _make_entry(run: Run, trust: bool) -> _Run:
    tags = run.data.tags
    items = len(run.data.params) + len(run.data.metrics) + (FINGERPRINT in tags) + ("study.status" in tags)
    return _Run(run.info.run_id, tags.get(FINGERPRINT, "") if trust else "", items)
