"""The ledger: a study's own record, a folder that holds what was tried and what came of it.

study.yaml            the study file as it ran
base_recipe.yaml      the recipe that every trial started from
manifest.json         versions, git commit, hardware, seeds and hashes of the first start
events/000001.jsonl   append-only, one event a line, one file a driver session (see event_log)
trials/0003/          recipe.yaml, checkpoints and hypotheses of trial 3
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from model.errors import UserError
from model.recipe.files import read_recipe
from model.recipe.hashing import content_hash
from model.recipe.recipe import Recipe
from model.runtime.garbage import no_collection
from model.strict import Strict, make_folders, read_yaml, to_yaml, validate, write_atomically
from study.config.question import class_of
from study.config.study_file import BaseRecipe, StudyFile, drop_unused_keys, read_study
from study.config.tracking_uri import holds_password, refuse_password
from study.ledger.budget_events import SessionWorkers
from study.ledger.event_log import EventLog
from study.ledger.events import AnyEvent, SessionStarted, TrialEnded, TrialStarted, Values
from study.ledger.fold_cache import keep_fold, read_fold
from study.ledger.lease import unwritable_folder_error
from study.ledger.manifest import find_version
from study.ledger.records import TrialRecord
from study.ledger.same_study import TRAININGS, refuse_change, refuse_other_files, refuse_other_trainings
from study.ledger.steering import Enqueued
from study.ledger.trials import Trials

STUDY, BASE_RECIPE, MANIFEST, RECIPE = "study.yaml", "base_recipe.yaml", "manifest.json", "recipe.yaml"

Check = Callable[[], None]
T = TypeVar("T", bound=Strict)


class Ledger:
    """An open study folder. `check_ownership` raises, before each write, when another process has taken the study."""

    def __init__(
        self,
        folder: Path,
        study: StudyFile,
        base_recipe: Recipe,
        manifest: dict[str, Any],
        check_ownership: Check = lambda: None,
    ) -> None:
        self.folder = folder
        self.check_ownership = check_ownership
        self.study = study
        self.base_recipe = base_recipe
        self.manifest = manifest
        self.log = EventLog(folder)
        with no_collection():  # the search for garbage takes half of the time where it is made, and there is none
            fold = read_fold(self.log)
        self.trials, self.position = fold.trials, fold.position  # up to which the event files were read
        self.alive_until: float | None = None  # the last heartbeat of a driver that was killed, for the next session
        self._lock = threading.Lock()  # of the fold, which a tracker's thread copies

    @classmethod
    def create_or_open(
        cls,
        folder: Path,
        study_file: StudyFile,
        base_recipe: Recipe,
        manifest: dict[str, Any],
        check_ownership: Check = lambda: None,
    ) -> Ledger:
        """The ledger in `folder`, made when there is none; a folder that holds another study is a UserError."""
        try:
            cls.refuse_other(folder, study_file, base_recipe)
            make_folders(folder)
            if (folder / STUDY).exists():
                before = _read_manifest(folder)
                refuse_other_trainings(folder, study_file.name, before)
                refuse_other_files(folder, study_file.name, before, manifest)
                manifest = before
            else:
                manifest = manifest | {"trainings": TRAININGS}
                write_atomically(folder / BASE_RECIPE, to_yaml(base_recipe))
                write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            # Last, because a folder with a study.yaml is a study.
            write_atomically(folder / STUDY, to_yaml(study_file))
        except OSError as error:
            raise unwritable_folder_error(folder, error) from None
        return cls(folder, study_file, base_recipe, manifest, check_ownership)

    @classmethod
    def refuse_other(cls, folder: Path, study_file: StudyFile, base_recipe: Recipe) -> None:
        """A UserError where the folder holds a study of another space, objective, corpus or base recipe, or where the
        study file would bring a password into it; a study that has one since an earlier version continues."""
        before = None
        if (folder / STUDY).exists():
            refuse_other_trainings(folder, study_file.name, _read_manifest(folder))
            before, base_before = _read_files(folder)
            refuse_change(folder, (before, base_before), (study_file, base_recipe))
        if before is None or not holds_password(before.tracking or ""):
            refuse_password(study_file.tracking)

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """The ledger in a folder that already holds a study, for reading."""
        if not (folder / STUDY).is_file():
            raise UserError(
                f"{folder} holds no study; give the folder of a study, or start one with `decred-study run`"
            )
        return cls(folder, *_read_files(folder), _read_manifest(folder))

    def start_session(
        self,
        trials: int = 0,
        concurrency: int = 0,
        changed: dict[str, list[Any]] | None = None,
    ) -> None:
        """Open this driver's event file; `trials` are to run, `concurrency` at a time. Whatever ran is interrupted."""
        self.check_ownership()
        workers = self.study.workers
        header = SessionStarted(
            version=find_version(),
            node=socket.gethostname(),
            process=os.getpid(),
            trials=trials,
            concurrency=concurrency,
            changed=changed or {},
            workers=SessionWorkers(count=workers.count, cpus=workers.cpus, gpus=workers.gpus),
            alive_until=self.alive_until,
        )
        header = self.log.start_session(header)
        self.alive_until = None
        with self._lock:
            self.trials.apply(header)

    def append(self, event: AnyEvent) -> None:
        """Write an event, wait until it is on the disk, and fold it into `trials`."""
        self.check_ownership()
        if not self.log.in_session:
            self.start_session()
        self.log.append(event)
        with self._lock:
            self.trials.apply(event)
            if isinstance(event, TrialEnded):
                self.trials.pack_reports(event.number)

    def keep_fold(self) -> None:
        """Have the next reader of a long study find what its events fold to; an error of the disk changes nothing."""
        with self._lock, contextlib.suppress(OSError):
            keep_fold(self.log, self.trials)

    def copy_trials(self) -> Trials:
        """The trials as they are now, for another thread than that which writes; records are shared, not copied."""
        with self._lock:
            return self.trials.copy()

    def start_trial(
        self,
        number: int,
        recipe: Recipe,
        values: Values,
        baseline: str | None = None,
        point: Values | None = None,
        training_of: int | None = None,
        confirms: int | None = None,
        enqueued: Enqueued | None = None,
    ) -> None:
        """Keep the trial's recipe and record that it runs, for the first time or again.

        `values` are for people; `point` is what the sampler drew, to the last digit. `training_of` is the trial whose
        training it shares, `confirms` the finalist that it trains again with another seed; `enqueued` is what a
        person asked for.
        """
        self.check_ownership()
        write_atomically(self.trial_folder(number) / RECIPE, to_yaml(recipe))
        self.append(
            TrialStarted(
                number=number,
                recipe_hash=recipe.hash,
                decoding=recipe.decoding.model_dump(mode="json"),
                decoding_hash=recipe.decoding.hash,
                training_of=training_of,
                values=values,
                point=point,
                baseline=baseline,
                recipe_class=class_of(recipe),
                confirms=confirms,
                epochs=recipe.training.epochs,
                enqueued=enqueued.id if enqueued is not None else None,
                enqueued_by=enqueued.who if enqueued is not None else None,
            )
        )

    def read_recipe(self, record: TrialRecord) -> Recipe:
        """The trial's recipe; a file that was changed since is a UserError.

        A version with more keys gives the same recipe another hash; then the file is hashed as it was written.
        """
        path = self.trial_folder(record.number) / RECIPE
        recipe = read_recipe(path)
        if record.recipe_hash not in (recipe.hash, content_hash(read_yaml(path))):
            raise UserError(
                f"{path} has hash {recipe.hash}, but trial {record.number} ran {record.recipe_hash}; "
                "the file was changed after the trial: restore it"
            )
        return recipe

    def trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"


def read_any_study(path: Path) -> StudyFile:
    """The study in a file, or that of a study's folder, which continues where it lies now.

    A recipe file may be gone since the study started; its content is in the folder.
    """
    if not path.is_dir():
        return read_study(path)
    folder = path.resolve()
    study = Ledger.open(folder).study
    if study.name != folder.name:
        raise UserError(f"{path} holds the study '{study.name}', whose folder must be called so; rename it")
    changes: dict[str, object] = {"storage": str(folder.parent)}
    if study.recipe.is_file:
        changes["recipe"] = BaseRecipe(base=str(folder / BASE_RECIPE))
    return study.model_copy(update=changes)


def _read_files(folder: Path) -> tuple[StudyFile, Recipe]:
    manifest = _read_manifest(folder)
    study_file = _read_own_file(StudyFile, folder / STUDY, manifest)
    return study_file, _read_own_file(Recipe, folder / BASE_RECIPE, manifest)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / MANIFEST} cannot be read ({error}); restore it or start under another name"
        ) from None
    return content if isinstance(content, dict) else {}


def _read_own_file(kind: type[T], path: Path, manifest: dict[str, Any]) -> T:
    """A file that a study wrote: a key that it lacks gets its default, one that is gone is a UserError."""
    try:
        content = read_yaml(path)
        return validate(kind, drop_unused_keys(content) if kind is StudyFile else content, str(path))
    except UserError as error:
        first_version = manifest.get("packages", {}).get("decred-study", "of another version")
        commit = (manifest.get("git") or {}).get("commit")
        first_version += f" at commit {commit[:12]}" if commit else ""
        raise UserError(
            f"{error}; the study was started with decred-study {first_version}: use that version, or start under "
            "another name"
        ) from None
