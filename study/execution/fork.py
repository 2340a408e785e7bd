"""A new study that starts with the trials of another one, as far as they fit its corpus, space and objective.

Which trials are imported is decided first. Then the study is built in a folder beside its own and renamed as a whole,
so that a crash leaves no incomplete study under its name.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import to_yaml, write_atomically
from model.training.prepare import prepare as prepare_corpus
from model.weights.found_decoding import read_found
from study.config.places import study_folder
from study.config.question import class_of
from study.config.study_file import read_study
from study.execution.checks import check
from study.execution.decode import search_event
from study.ledger import lease
from study.ledger.events import TrialImported
from study.ledger.ledger import RECIPE, STUDY, Ledger
from study.ledger.manifest import make_manifest
from study.ledger.records import TrialRecord, TrialState
from study.ledger.same_study import refuse_other_trainings
from study.search.proposer import Proposer

Print = Callable[[str], object]
Prepare = Callable[[Recipe], Recipe]
_USABLE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Adopted:
    """A trial of the old study, as the new one has it."""

    old_number: int
    recipe: Recipe
    record: TrialRecord


@dataclass
class Plan:
    """Which trials are imported, and why the others are not, by their old numbers."""

    adopted: list[Adopted] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)

    @property
    def records(self) -> dict[int, TrialRecord]:
        """The trials of the new study, by its numbers."""
        return {adopted.record.number: adopted.record for adopted in self.adopted}


def fork_study(
    old: Ledger, path: Path, print_line: Print, address: str | None = None, prepare: Prepare = prepare_corpus
) -> Path:
    """Start the study in the file `path` with the trials of `old` that fit; the new study's folder.

    A line is printed for each trial that is left out. A UserError, and no new study, when none fits.
    """
    study = read_study(path)
    folder = study_folder(study)
    refuse_other_trainings(old.folder, old.study.name, old.manifest)
    _refuse_used_folder(folder, path)
    base = prepare(check(study, address).base)
    manifest = make_manifest(study, base) | {"forked_from": {"study": old.study.name, "id": old.manifest.get("id")}}
    proposer = Proposer(study, base)
    plan = make_plan(old, base, _read_tokenizer_hash(manifest), proposer, study.objective.metric)
    for number, reason in plan.refused.items():
        print_line(f"trial {number:04d} is left out: {reason}")
    if not plan.adopted:
        raise UserError(
            f"no trial of study '{old.study.name}' fits '{study.name}', so nothing was made; "
            f"start it without them: decred-study run {path}"
        )
    with _draft_folder(folder, print_line) as draft:
        ledger = Ledger.create_or_open(draft, study, base, manifest)
        for adopted in plan.adopted:
            _copy_trial(adopted, old, ledger)
        remaining = proposer.count_remaining(ledger.trials)
    print_line(
        f"{folder} starts with {len(plan.adopted)} of {len(plan.adopted) + len(plan.refused)} trials of "
        f"'{old.study.name}', {remaining} are to run; continue with: decred-study run {path}"
    )
    return folder


def _read_tokenizer_hash(manifest: Mapping[str, Any]) -> str | None:
    return (manifest.get("hashes") or {}).get("tokenizer")


def make_plan(old: Ledger, base: Recipe, tokenizer: str | None, proposer: Proposer, metric: str) -> Plan:
    """Which trials of `old` are imported, under new numbers. `tokenizer` is the hash of the new study's tokenizer."""
    plan = Plan()
    hashes = (_read_tokenizer_hash(old.manifest), tokenizer)
    other = f"it was tried with another tokenizer ({hashes[0]}, here {hashes[1]})"
    for number, record in old.trials.items():
        reason = _find_fault(record, metric) or (other if None not in hashes and hashes[0] != hashes[1] else None)
        adopted = _adopt(old, record, base, proposer, plan) if reason is None else reason
        if isinstance(adopted, Adopted):
            plan.adopted.append(adopted)
        else:
            plan.refused[number] = adopted
    return plan


def _adopt(old: Ledger, record: TrialRecord, base: Recipe, proposer: Proposer, plan: Plan) -> Adopted | str:
    """The trial as the new study has it, or why it does not fit."""
    try:
        recipe = old.read_recipe(record)
    except UserError as error:
        return str(error)
    if recipe.data.fingerprint != base.data.fingerprint:
        return f"it was tried on another corpus (content {recipe.data.fingerprint}, here {base.data.fingerprint})"
    recipe = with_values(recipe, {"data.corpus": base.data.corpus})
    point = proposer.locate(recipe, record, plan.records)
    if isinstance(point, str):
        return point
    values = proposer.space.describe_recipe(recipe)
    here = replace(record, number=len(plan.adopted), values=values, point=point, recipe_hash=recipe.hash)
    return Adopted(record.number, recipe, here)


def _find_fault(record: TrialRecord, metric: str) -> str | None:
    """Why a trial has no result to take over, where it has none."""
    if record.confirms is not None:
        return f"it confirms trial {record.confirms} there, and this study confirms its own finalists"
    if not record.state.final:
        return f"it has not ended, it is {record.state}"
    if record.state not in _USABLE:
        return f"it {'failed' if record.state is TrialState.FAILED else 'is infeasible'}: {record.reason}"
    if not math.isfinite(record.metrics.get(metric, math.nan)) or not record.curve(metric):
        return f"it has no {metric}, which this study makes smaller"
    return None


def _copy_trial(adopted: Adopted, old: Ledger, ledger: Ledger) -> None:
    """The trial's folder and its record; files are linked where possible, because they are never written again."""
    record, source = adopted.record, old.trial_folder(adopted.old_number)
    folder = ledger.trial_folder(record.number)
    shutil.copytree(source, folder, copy_function=_link, ignore=shutil.ignore_patterns(".*"))
    write_atomically(folder / RECIPE, to_yaml(adopted.recipe))
    ledger.append(
        TrialImported(
            number=record.number,
            source=f"{old.study.name}/{adopted.old_number}",
            recipe_hash=record.recipe_hash,
            decoding=adopted.recipe.decoding.model_dump(mode="json"),
            decoding_hash=adopted.recipe.decoding.hash,
            values=record.values,
            point=record.point,
            baseline=record.baseline,
            recipe_class=class_of(adopted.recipe),
            epochs=tuple(record.epochs),
            state=record.state,
            reason=record.reason,
            metrics=record.final_metrics,
            is_final=True,
            started=record.started,
            ended=record.ended,
        )
    )
    found = read_found(folder) if record.found_decoding is not None else None
    if found is not None:
        ledger.append(search_event(record.number, found))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target


def _refuse_used_folder(folder: Path, path: Path) -> None:
    """The new study's folder has to be free; the lock file of a refused run does not count."""
    if (folder / STUDY).exists():
        raise UserError(
            f"{folder} holds a study already; give the new study another name in {path}, "
            f"or continue the existing one: decred-study run {path}"
        )
    if folder.exists() and {entry.name for entry in folder.iterdir()} - {lease.LOCK}:
        raise UserError(f"{folder} holds other files; give the new study another name in {path}, or move them away")


@contextlib.contextmanager
def _draft_folder(folder: Path, print_line: Print) -> Iterator[Path]:
    """An empty folder beside `folder` that replaces it when the block succeeds, and is removed when it fails."""
    draft = folder.with_name(f".{folder.name}.fork")
    try:
        with lease.hold_lease(draft, print_line):
            for entry in draft.iterdir():  # of a fork that was killed
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name not in (lease.LOCK, lease.LEASE):
                    entry.unlink()
            try:
                yield draft
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
        folder.mkdir(exist_ok=True)
        (folder / lease.LOCK).unlink(missing_ok=True)
        os.rename(draft, folder)  # an empty folder is replaced
    except OSError as error:
        raise lease.unwritable_folder_error(folder, error) from None
