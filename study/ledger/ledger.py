"""The ledger: a study's own record, a folder that tells what was tried and what came of it.

study.yaml         the study file as it ran
base_recipe.yaml   the recipe that every trial started from
manifest.json      versions, git commit, hardware, seeds and hashes of the first start
events.jsonl       append-only, one event a line
trials/0003/       recipe.yaml, checkpoints and hypotheses of trial 3
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from model.errors import UserError
from model.recipe.recipe import Recipe
from model.strict import Strict, read_yaml, to_yaml, validate, write_atomically
from study.config.study_file import StudyFile, drop_unused_keys
from study.ledger import event_file
from study.ledger.lease import unwritable
from study.ledger.records import DamagedEventError, TrialRecord, TrialState, folded
from study.ledger.same_study import refuse_change, refuse_other_files, tried_recipe

STUDY, BASE_RECIPE, MANIFEST, EVENTS = "study.yaml", "base_recipe.yaml", "manifest.json", "events.jsonl"

Guard = Callable[[], None]
T = TypeVar("T", bound=Strict)


def _unguarded() -> None:
    """Nobody else writes here."""


class Ledger:
    """An open study folder. `guard` raises, before each write, when the study is no longer ours."""

    def __init__(
        self,
        folder: Path,
        study: StudyFile,
        base_recipe: Recipe,
        manifest: dict[str, Any],
        guard: Guard = _unguarded,
    ) -> None:
        self.folder = folder
        self.guard = guard
        self.study = study
        self.base_recipe = base_recipe
        self.manifest = manifest
        self._lock = threading.Lock()

    @classmethod
    def create_or_open(
        cls,
        folder: Path,
        study_file: StudyFile,
        base_recipe: Recipe,
        manifest: dict[str, Any],
        guard: Guard = _unguarded,
    ) -> Ledger:
        """The ledger in `folder`, made when there is none; a folder that holds another study is a UserError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / STUDY).exists():
                cls.refuse_other(folder, study_file, base_recipe)
                was = cls.open(folder).manifest
                refuse_other_files(folder, study_file.name, was, manifest)
                manifest = was
            else:
                write_atomically(folder / BASE_RECIPE, to_yaml(base_recipe))
                write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            event_file.create(folder / EVENTS)
            # Last, because a folder with a study.yaml is a study.
            write_atomically(folder / STUDY, to_yaml(study_file))
        except OSError as error:
            raise unwritable(folder, error) from None
        return cls(folder, study_file, base_recipe, manifest, guard)

    @classmethod
    def refuse_other(cls, folder: Path, study_file: StudyFile, base_recipe: Recipe) -> None:
        """A UserError where the folder holds a study of another space, objective, corpus or base recipe."""
        if (folder / STUDY).exists():
            there = cls.open(folder)
            refuse_change(folder, (there.study, there.base_recipe), (study_file, base_recipe))

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """The ledger in a folder that already holds a study, for reading."""
        if not (folder / STUDY).is_file():
            raise UserError(
                f"{folder} holds no study; give the folder of a study, or start one with `decred-study run`"
            )
        manifest = _manifest_in(folder)
        study = _as_written(StudyFile, folder / STUDY, manifest)
        base_recipe = _as_written(Recipe, folder / BASE_RECIPE, manifest)
        return cls(folder, study, base_recipe, manifest)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event and wait until it is on the disk."""
        with self._lock:
            self.guard()
            event_file.append(self.folder / EVENTS, {"time": round(time.time(), 3), "kind": kind, **fields})

    def trial_started(
        self,
        number: int,
        recipe: Recipe,
        values: dict[str, Any],
        baseline: str | None,
        point: dict[str, Any] | None = None,
    ) -> None:
        """Keep the trial's recipe and note that it runs, for the first time or again.

        `values` are for people; `point` is what the sampler drew, to the last digit.
        """
        self.guard()
        write_atomically(self.trial_folder(number) / "recipe.yaml", to_yaml(recipe))
        known = {"values": values, "point": point, "baseline": baseline}
        self.append("trial_started", number=number, recipe_hash=recipe.hash, **known)

    def trial_epoch(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        self.append("trial_epoch", number=number, epoch=epoch, metrics=metrics)

    def trial_paused(self, number: int, epoch: int, reason: str) -> None:
        """The trial waits at a rung, its checkpoint kept; it may be promoted and go on."""
        self.append("trial_paused", number=number, epoch=epoch, reason=reason)

    def trial_retried(self, number: int, reason: str, count: int, setting: str) -> None:
        """The trial lost its workers for the `count`-th time and goes on from its checkpoint, as `setting` allows."""
        self.append("trial_retried", number=number, reason=reason, count=count, setting=setting)

    def trial_ended(
        self,
        number: int,
        state: TrialState,
        reason: str | None = None,
        metrics: dict[str, float] | None = None,
        **governed: Any,
    ) -> None:
        """`metrics` are final ones, beyond the last epoch's: the figures of the test sets.

        `governed`: the count and the setting that decided the end of a trial that broke.
        """
        self.append("trial_ended", number=number, state=state.value, reason=reason, metrics=metrics or {}, **governed)

    def trial_imported(self, number: int, source: str, record: TrialRecord) -> None:
        """A trial of another study, whole: `source` is "study/number"."""
        epochs = [
            {"epoch": one["epoch"], "metrics": {k: v for k, v in one.items() if k != "epoch"}} for one in record.epochs
        ]
        self.append(
            "trial_imported",
            number=number,
            source=source,
            recipe_hash=record.recipe_hash,
            values=record.values,
            baseline=record.baseline,
            epochs=epochs,
            state=record.state.value,
            reason=record.reason,
            metrics=record.metrics,
            started=record.started,
            ended=record.ended,
        )

    def study_ended(self, state: TrialState, best: TrialRecord | None) -> None:
        """All that was to be done is done; complete, or failed where no trial completed."""
        self.append("study_ended", state=state.value, **_best(best))

    def study_interrupted(self, reason: str | None, best: TrialRecord | None) -> None:
        """It stops before its end, and goes on another time; `best` is the best so far."""
        self.append("study_interrupted", reason=reason, **_best(best))

    def trial_infeasible(
        self, number: int, values: dict[str, Any], reason: str, point: dict[str, Any] | None = None
    ) -> None:
        """A sampled point that makes no recipe: it has an end and no start."""
        known = {"reason": reason, "values": values, "point": point, "metrics": {}}
        self.append("trial_ended", number=number, state=TrialState.INFEASIBLE.value, **known)

    def events(self) -> list[dict[str, Any]]:
        """Every whole event; a last line that a crash tore is left out."""
        return event_file.read(self.folder / EVENTS)

    def events_since(self, offset: int, most: int | None = None) -> tuple[list[dict[str, Any]], int]:
        """The whole events behind byte `offset`, at most `most` of them, and the offset behind the last one."""
        return event_file.read_since(self.folder / EVENTS, offset, most)

    def has_ended(self) -> bool:
        """Whether nothing has happened since the study came to its end."""
        events = self.events()
        return bool(events) and events[-1]["kind"] == "study_ended"

    def trials(self) -> dict[int, TrialRecord]:
        """Every trial as the events tell it, by number; a damaged event is a UserError with its line."""
        try:
            return folded(self.events())
        except DamagedEventError as error:
            raise event_file.damaged(self.folder / EVENTS, error.index + 1) from None

    def recipe_of(self, record: TrialRecord) -> Recipe:
        """What the trial tried; a file that was changed since is a UserError."""
        return tried_recipe(self.trial_folder(record.number) / "recipe.yaml", record.number, record.recipe_hash)

    def trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"


def _best(best: TrialRecord | None) -> dict[str, Any]:
    return {"best": best.number, "best_recipe_hash": best.recipe_hash} if best else {}


def _manifest_in(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / MANIFEST} cannot be read ({error}); restore it or start under another name"
        ) from None
    return found if isinstance(found, dict) else {}


def _as_written(kind: type[T], path: Path, manifest: dict[str, Any]) -> T:
    """A file of ours; what an older version left out has its default, what it had and is no more is a UserError."""
    try:
        content = read_yaml(path)
        return validate(kind, drop_unused_keys(content) if kind is StudyFile else content, str(path))
    except UserError as error:
        version = manifest.get("packages", {}).get("decred-study", "of another version")
        commit = (manifest.get("git") or {}).get("commit")
        begun = f"{version}{f' at commit {commit[:12]}' if commit else ''}"
        raise UserError(
            f"{error}; the study was begun with decred-study {begun}: use that one, or start under another name"
        ) from None
