"""The ledger: a study's own record, a folder that tells what was tried and what came of it.

study.yaml         the study file as it ran
base_recipe.yaml   the recipe that every trial started from
manifest.json      versions, git commit and hardware of the first start
events.jsonl       append-only, one event a line
trials/0003/       recipe.yaml, checkpoints and hypotheses of trial 3
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe import Recipe
from model.strict import read_yaml, to_yaml, validate, write_atomically
from study.lease import unwritable
from study.study_file import Search, StudyFile
from study.trial_record import State, TrialRecord, folded

STUDY, BASE_RECIPE, MANIFEST, EVENTS = "study.yaml", "base_recipe.yaml", "manifest.json", "events.jsonl"
_NOT_THE_SPACE = {"sampler", "seed", "startup_trials", "grid_points"}  # how points are found, not which there are

Guard = Callable[[], None]


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
        self._guard = guard
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
                manifest = cls.open(folder).manifest
            else:
                write_atomically(folder / BASE_RECIPE, to_yaml(base_recipe))
                write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            # Last, because a folder with a study.yaml is a study.
            write_atomically(folder / STUDY, to_yaml(study_file))
            with (folder / EVENTS).open("ab"):
                pass
        except OSError as error:
            raise unwritable(folder, error) from None
        return cls(folder, study_file, base_recipe, manifest, guard)

    @classmethod
    def refuse_other(cls, folder: Path, study_file: StudyFile, base_recipe: Recipe) -> None:
        """A UserError where the folder holds a study of another space, objective, corpus or base recipe."""
        if (folder / STUDY).exists():
            _refuse_change(folder, cls.open(folder), study_file, base_recipe)

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """The ledger in a folder that already holds a study, for reading."""
        if not (folder / STUDY).is_file():
            raise UserError(
                f"{folder} holds no study; give the folder of a study, or start one with `decred-study run`"
            )
        study = validate(StudyFile, read_yaml(folder / STUDY), str(folder / STUDY))
        base_recipe = validate(Recipe, read_yaml(folder / BASE_RECIPE), str(folder / BASE_RECIPE))
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder / MANIFEST} cannot be read ({error}); restore it or start under another name"
            ) from None
        return cls(folder, study, base_recipe, manifest)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event and wait until it is on the disk."""
        event = _finite({"time": round(time.time(), 3), "kind": kind, **fields})
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._lock, (self.folder / EVENTS).open("r+b") as file:
            self._guard()
            _cut_torn_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def trial_started(self, number: int, recipe: Recipe, values: dict[str, Any], baseline: str | None) -> None:
        """Keep the trial's recipe and note that it runs, for the first time or again."""
        self._guard()
        write_atomically(self.trial_folder(number) / "recipe.yaml", to_yaml(recipe))
        self.append("trial_started", number=number, recipe_hash=recipe.hash, values=values, baseline=baseline)

    def trial_epoch(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        self.append("trial_epoch", number=number, epoch=epoch, metrics=metrics)

    def trial_paused(self, number: int, epoch: int, reason: str) -> None:
        """The trial waits at a rung, its checkpoint kept; it may be promoted and go on."""
        self.append("trial_paused", number=number, epoch=epoch, reason=reason)

    def trial_retried(self, number: int, reason: str, count: int, setting: str) -> None:
        """The trial lost its workers for the `count`-th time and goes on from its checkpoint, as `setting` allows."""
        self.append("trial_retried", number=number, reason=reason, count=count, setting=setting)

    def trial_ended(
        self, number: int, state: State, reason: str | None = None, metrics: dict[str, float] | None = None
    ) -> None:
        """`metrics` are final ones, beyond the last epoch's: the figures of the test sets."""
        self.append("trial_ended", number=number, state=state.value, reason=reason, metrics=metrics or {})

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

    def study_ended(self, state: State, best: TrialRecord | None) -> None:
        """All that was to be done is done; complete, or failed where no trial completed."""
        found = {"best": best.number, "best_recipe_hash": best.recipe_hash} if best else {}
        self.append("study_ended", state=state.value, **found)

    def trial_infeasible(self, number: int, values: dict[str, Any], reason: str) -> None:
        """A sampled point that makes no recipe: it has an end and no start."""
        self.append(
            "trial_ended", number=number, state=State.INFEASIBLE.value, reason=reason, values=values, metrics={}
        )

    def events(self) -> list[dict[str, Any]]:
        """Every whole event; a last line that a crash tore is left out."""
        lines = (self.folder / EVENTS).read_bytes().split(b"\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            number = next(i for i, line in enumerate(lines, 1) if not _is_json(line))
            raise UserError(
                f"{self.folder / EVENTS}: line {number} is damaged; restore the file or remove the line"
            ) from None

    def events_since(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """The whole events behind byte `offset` of the file, and the offset behind the last of them."""
        with (self.folder / EVENTS).open("rb") as file:
            file.seek(offset)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return [], offset
        return [json.loads(line) for line in whole.split(b"\n")], offset + len(whole) + 1

    def trials(self) -> dict[int, TrialRecord]:
        """Every trial as the events tell it, by number."""
        return folded(self.events())

    def trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"


def _refuse_change(folder: Path, ledger: Ledger, study: StudyFile, base_recipe: Recipe) -> None:
    parts = {
        "search space": (_space(ledger.study.search), _space(study.search)),
        "objective": (ledger.study.objective.model_dump(), study.objective.model_dump()),
        "corpus": (
            {"fingerprint": ledger.base_recipe.data.fingerprint},
            {"fingerprint": base_recipe.data.fingerprint},
        ),
        "base recipe": (_content(ledger.base_recipe), _content(base_recipe)),
    }
    for part, (was, now) in parts.items():
        if was != now:
            raise UserError(
                f"study '{study.name}' in {folder} is in use with another {part} ({_difference(was, now)}); "
                "give the new study another name, or put the old value back"
            )


def _space(search: Search) -> dict[str, Any]:
    return search.model_dump(mode="json", exclude=_NOT_THE_SPACE)


def _content(recipe: Recipe) -> dict[str, Any]:
    content = recipe.model_dump(mode="json")
    del content["name"], content["data"]["corpus"], content["data"]["fingerprint"]
    return content


def _difference(was: dict[str, Any], now: dict[str, Any], place: str = "") -> str:
    """The first keys that differ, dotted, with both values."""
    for key in [*was, *(key for key in now if key not in was)]:
        old, new = was.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            return _difference(old, new, f"{place}{key}.")
        return f"{place}{key} was {_brief(old)}, is {_brief(new)}"
    return ""


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if each is not None}
    return json.dumps(value, ensure_ascii=False)


def _cut_torn_line(file: Any) -> None:
    """Leave `file` at its end, behind a whole line."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: such a number is written as null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
