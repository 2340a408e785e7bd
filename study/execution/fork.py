"""A new study that starts with the trials of another one, as far as they fit its corpus, space and objective.

What is taken over is decided first, with a database in memory. Then the study is built in a folder beside its own and
moved there whole, so that a crash leaves no half study under its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import to_yaml, write_atomically
from model.training.prepare import prepare as prepare_corpus
from study.config.places import study_folder
from study.config.study_file import StudyFile, read_study
from study.execution.checks import IN_MEMORY, check
from study.ledger import lease
from study.ledger.ledger import STUDY, Ledger
from study.ledger.manifest import manifest
from study.ledger.records import TrialRecord, TrialState
from study.search.optuna_store import storage_url
from study.search.proposer import Proposer
from study.search.space import Space

Say = Callable[[str], object]
_USABLE = (TrialState.COMPLETE, TrialState.PRUNED)


class Adopter(Protocol):
    """Who takes in finished trials: a `Proposer`, or a stand-in in tests."""

    def adopt(self, recipe: Recipe, record: TrialRecord) -> int | str:
        """The trial's number in the new study, or why it does not belong there."""

    def remaining(self) -> int:
        """Trials still to run."""


Open = Callable[[StudyFile, Recipe, str, str | None], Adopter]
Prepare = Callable[[Recipe], Recipe]


@dataclass(frozen=True)
class Taken:
    """A trial of the old study, as the new one has it."""

    was: int
    recipe: Recipe
    record: TrialRecord


@dataclass
class Plan:
    """Which trials go over, and why the others do not, by their old numbers."""

    taken: list[Taken] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)


def fork_study(
    old: Ledger,
    path: Path,
    say: Say,
    address: str | None = None,
    prepare: Prepare = prepare_corpus,
    proposer: Open = Proposer,
) -> Path:
    """Start the study in the file `path` with the trials of `old` that fit; the new study's folder.

    `say` hears a line for each trial that is left out. A UserError, and no new study, when none fits.
    """
    study = read_study(path)
    folder = study_folder(study)
    _refuse_taken(folder, path)
    base = prepare(check(study, address).base)
    about = manifest(study, base) | {"forked_from": {"study": old.study.name, "id": old.manifest.get("id")}}
    plan = planned(old, study, base, _tokenizer_of(about), proposer(study, base, IN_MEMORY, None))
    for number, reason in plan.left.items():
        say(f"trial {number:04d} is left out: {reason}")
    if not plan.taken:
        raise UserError(
            f"no trial of study '{old.study.name}' fits '{study.name}', so nothing was made; "
            f"start it without them: decred-study run {path}"
        )
    with _draft(folder, say) as draft:
        ledger = Ledger.create_or_open(draft, study, base, about)
        for taken in plan.taken:
            _take_over(taken, old, ledger)
        # The database last: it may be one that is not in the folder.
        adopter = proposer(study, base, storage_url(study, draft), about["id"])
        for taken in plan.taken:
            if adopter.adopt(taken.recipe, taken.record) != taken.record.number:
                raise UserError(
                    f"Optuna's database holds trials of a study '{study.name}' already; "
                    "give the new study another name, or a database of its own"
                )
    to_run = adopter.remaining()
    say(
        f"{folder} starts with {len(plan.taken)} of {len(plan.taken) + len(plan.left)} trials of "
        f"'{old.study.name}', {to_run} are to run; go on with: decred-study run {path}"
    )
    return folder


def _tokenizer_of(about: Mapping[str, Any]) -> str | None:
    return (about.get("hashes") or {}).get("tokenizer")


def planned(old: Ledger, study: StudyFile, base: Recipe, tokenizer: str | None, adopter: Adopter) -> Plan:
    """What of `old` goes over, under the numbers that `adopter` gives. `tokenizer` is the hash of the new study's."""
    plan, space = Plan(), Space(study.search, base)
    known = (_tokenizer_of(old.manifest), tokenizer)
    other = f"it was tried with another tokenizer ({known[0]}, here {known[1]})"
    for number, record in old.trials().items():
        reason = _unusable(record) or (other if None not in known and known[0] != known[1] else None)
        if reason is None:
            taken = _adopted(old, record, base, space, adopter)
            if isinstance(taken, Taken):
                plan.taken.append(taken)
                continue
            reason = taken
        plan.left[number] = reason
    return plan


def _adopted(old: Ledger, record: TrialRecord, base: Recipe, space: Space, adopter: Adopter) -> Taken | str:
    try:
        recipe = old.recipe_of(record)
    except UserError as error:
        return str(error)
    if recipe.data.fingerprint != base.data.fingerprint:
        return f"it was tried on another corpus (content {recipe.data.fingerprint}, here {base.data.fingerprint})"
    recipe = with_values(recipe, {"data.corpus": base.data.corpus})
    number = adopter.adopt(recipe, record)
    if isinstance(number, str):
        return number
    here = replace(record, number=number, values=space.values(recipe), recipe_hash=recipe.hash)
    return Taken(record.number, recipe, here)


def _unusable(record: TrialRecord) -> str | None:
    """Why a trial has no result to go over, where it has none."""
    if record.state in _USABLE:
        return None
    if not record.state.final:
        return f"it has not ended, it is {record.state}"
    return f"it {'failed' if record.state is TrialState.FAILED else 'is infeasible'}: {record.reason}"


def _take_over(taken: Taken, old: Ledger, ledger: Ledger) -> None:
    """The trial's folder and its record; whatever lies there is linked where that can be, for nobody writes into it."""
    number, was = taken.record.number, old.trial_folder(taken.was)
    shutil.copytree(was, ledger.trial_folder(number), copy_function=_linked, ignore=shutil.ignore_patterns(".*"))
    write_atomically(ledger.trial_folder(number) / "recipe.yaml", to_yaml(taken.recipe))
    ledger.trial_imported(number, f"{old.study.name}/{taken.was}", taken.record)


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target


def _refuse_taken(folder: Path, path: Path) -> None:
    """The new study's folder has to be free; what a run that was refused leaves there is nothing."""
    if (folder / STUDY).exists():
        raise UserError(
            f"{folder} holds a study already; give the new study another name in {path}, "
            f"or go on with the one that is there: decred-study run {path}"
        )
    if folder.exists() and {each.name for each in folder.iterdir()} - {lease.LOCK}:
        raise UserError(f"{folder} holds other files; give the new study another name in {path}, or move them away")


@contextlib.contextmanager
def _draft(folder: Path, say: Say) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its place when the block is through, and else is removed."""
    draft = folder.with_name(f".{folder.name}.fork")
    try:
        with lease.held(draft, say):
            for left in draft.iterdir():  # by a fork that was killed
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name not in (lease.LOCK, lease.LEASE):
                    left.unlink()
            try:
                yield draft
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
        folder.mkdir(exist_ok=True)
        (folder / lease.LOCK).unlink(missing_ok=True)
        os.rename(draft, folder)  # a folder takes the place of an empty one
    except OSError as error:
        raise lease.unwritable(folder, error) from None
