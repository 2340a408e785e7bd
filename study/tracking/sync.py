"""Brings the runs in MLflow to the ledger's records, in batches, and counts those that are not up to date.

No process remembers how far it came for the next one: each run carries the fingerprint of what it holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import uuid
from collections.abc import Callable, Iterator
from itertools import islice

from study.ledger.follower import Follower
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.tracking.mlflow_runs import MlflowRuns
from study.tracking.mlflow_store import is_sqlite, sqlite_file, store_uri
from study.tracking.run_content import RunContent, build_trial_run
from study.tracking.study_content import build_study_run, describe_corpus, find_files, list_roles

WRITER = "tracked.writer"
Number = int | None  # of a trial and its run; None is the study's own run
Source = Callable[[], Trials]  # gives the trials as they are now

_MAX_RUNS = 20  # of one batch


class Sync:
    """Follows one study's ledger. For one thread, except `count_outdated`."""

    def __init__(
        self, ledger: Ledger, on_progress: Callable[[Number], None] = lambda number: None, source: Source | None = None
    ) -> None:
        """`on_progress` is called with each run that was brought up to date. Nothing is opened yet.

        `source` is where the trials come from; by default the ledger's events are read and folded here.
        """
        self.uri = store_uri(ledger.study.tracking, ledger.folder)
        self.has_compared = False  # MLflow's runs were read at least once
        self._folder, self._name, self._on_progress = ledger.folder, ledger.study.name, on_progress
        self._study = ledger.study
        self._objective, self._corpus = ledger.study.objective, describe_corpus(ledger.study.corpus, ledger.manifest)
        self._source = source or Follower(ledger.folder)
        self._trials, self._records = Trials(), dict[int, TrialRecord]()  # as they were read last
        self._selection, self._applied = self._trials.selection, self._trials.applied  # likewise
        study_id, artifacts = ledger.manifest.get("id") or self._name, ledger.study.object_store.artifacts
        self._runs = MlflowRuns(self.uri, self._name, study_id, ledger.folder, artifacts)
        self._files: tuple[tuple[str, int], ...] = ()  # of the study, which are written after its last event
        self._changed: set[Number] = set()  # runs that events since their last update may have changed
        self._must_load = True  # MLflow's runs are not known: after an error, or when another process wrote them
        self._id = uuid.uuid4().hex

    def sync_batch(self, verify: bool = False) -> int:
        """Bring the next few runs up to date; how many, 0 where all are. Raises what the store raises.

        `verify`: compare all runs with their records point by point, those too whose fingerprints are right.
        """
        self._read_trials()
        self._look_at_files()
        if not self._changed:
            return 0  # without a turn
        with self._take_turn() as was_ours:
            # Again, because another process may have read more, and its runs must not be set back.
            self._read_trials()
            try:
                if self._must_load or verify or not was_ours:
                    self._load_runs(verify)
                count = self._update_runs(len(self._trials) + 1 if verify else _MAX_RUNS)
                if self._runs.may_have_duplicates:
                    self._load_runs()
                    self._runs.may_have_duplicates = False
            except BaseException:
                self._must_load = True
                self._changed.add(None)
                raise
            return count

    def compare(self) -> int:
        """How many runs are not up to date; nothing is changed. Raises what the store raises."""
        self._read_trials()
        if not is_sqlite(self.uri) or sqlite_file(self.uri).exists():  # to open it would make it
            self._runs.load()
        return self.count_outdated(self._trials)

    def count_outdated(self, trials: Trials) -> int:
        """How many runs are not known to hold these records."""
        return sum(1 for _ in self._find_outdated(trials, {None, *trials}))

    def _find_outdated(self, trials: Trials, numbers: set[Number]) -> Iterator[RunContent]:
        """What runs must hold and do not; the study's own run comes first."""
        fingerprints, roles = self._runs.fingerprints, list_roles(trials)
        for number in sorted(numbers, key=lambda number: -1 if number is None else number):
            if number is None:
                content = self._build_study_run(trials)
            else:
                content = build_trial_run(trials[number], roles[number], self._corpus)
            if trials.began is not None and content.fingerprint != fingerprints.get(number):
                yield content

    def _build_study_run(self, trials: Trials) -> RunContent:
        return build_study_run(trials, self._name, self._objective, find_files(self._folder), self._study)

    def _look_at_files(self) -> None:
        """The study's own run may have to be sent again where its report was written after its last event."""
        if self._trials.study_state in (TrialState.WAITING, TrialState.RUNNING):  # not begun, or not ended
            return
        if (files := find_files(self._folder)) != self._files:
            self._files = files
            self._changed.add(None)

    def _read_trials(self) -> None:
        trials = self._source()
        # Other finalists change the roles of trials whose records stay as they were.
        known = self._records if trials.selection is self._selection else {}
        self._changed |= {number for number, record in trials.items() if known.get(number) is not record}
        if trials.applied != self._applied:
            self._changed.add(None)
        self._trials, self._records = trials, dict(trials)
        self._selection, self._applied = trials.selection, trials.applied

    def _load_runs(self, verify: bool = False) -> None:
        self._runs.load(trust=not verify)
        self._runs.prepare(self._build_study_run(self._trials))
        self._changed = {content.number for content in self._find_outdated(self._trials, {None, *self._trials})}
        self.has_compared, self._must_load = True, False

    def _update_runs(self, most: int) -> int:
        count = 0
        for content in islice(self._find_outdated(self._trials, self._changed), most):
            self._runs.update(content)
            self._changed.discard(content.number)
            self._on_progress(content.number)
            count += 1
        if count < most:  # those that were skipped hold what they must
            self._changed.clear()
        return count

    @contextlib.contextmanager
    def _take_turn(self) -> Iterator[bool]:
        """Be the only process that writes the study's runs; whether no other one did since the last turn.

        Studies on one SQLite file take turns as well, because it takes one writer at a time.
        """
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context((self._folder / WRITER).open("a+"))
            streams = [stream]
            if is_sqlite(self.uri):
                database = sqlite_file(self.uri)
                streams.append(stack.enter_context(database.with_name(f"{database.name}.writer").open("a")))
            for lock in streams:
                with contextlib.suppress(OSError):  # a file system without locks: nothing can be kept out
                    fcntl.flock(lock, fcntl.LOCK_EX)
            stream.seek(0)
            was_ours = stream.read() == self._id
            if not was_ours:
                stream.truncate(0)
                stream.write(self._id)
                stream.flush()
            yield was_ours
