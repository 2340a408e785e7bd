"""Whose weights a study keeps where `disk.keep_best` says so, and the removal of the others.

Figures, hypotheses, recipes and tokenizers stay of every trial. Only weights of trials that came to their end are
removed: a trial that may continue, or be reopened, has its checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from weakref import WeakKeyDictionary

from model.weights.checkpoint_files import CHECKPOINTS
from model.weights.chosen import CHOSEN, REMOVED_FILE
from model.weights.ended_run import remove_weights
from model.weights.object_store import StoreError
from study.config.study_file import Objective, StudyFile
from study.ledger.best import find_best, rank_trials
from study.ledger.ledger import Ledger
from study.ledger.pareto import make_front
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.search.own_weights import find_own_trial

_removed: WeakKeyDictionary[Ledger, set[int]] = WeakKeyDictionary()  # so that no folder is looked at again and again


def choose_kept(trials: Trials, study: StudyFile, sources: Iterable[int] = ()) -> set[int]:
    """The trials whose weights are kept: all where the study file sets no `disk.keep_best`.

    Others start from the weights of `sources`.
    """
    most = study.disk.keep_best
    if most is None:
        return set(trials)
    kept = {number for number, record in trials.items() if _is_kept_always(record)} | set(sources)
    if trials.selection is not None:
        kept |= {finalist.number for finalist in trials.selection.finalists}
    if (best := find_best(trials.values(), study.objective)) is not None:
        kept.add(best.number)
    for objective in _list_rankings(study):
        if (front := make_front(trials.values(), objective)) is not None:
            kept |= {one.number for one in front.trials}
    for ranked in _rank_by_class(trials, study):
        kept |= set(ranked[:most])
    # In an object store a trial that shares a training has its weights where that training has them.
    trainings = [record.training_of for record in trials.values() if record.number in kept]
    return kept | {number for number in trainings if number is not None}


def remove_surplus_weights(ledger: Ledger) -> list[int]:
    """Remove the weights that are not kept any more; the numbers of their trials."""
    if ledger.study.disk.keep_best is None:
        return []
    removed = _removed.setdefault(ledger, set())
    kept = choose_kept(ledger.trials, ledger.study, _list_sources(ledger))
    surplus = [number for number in ledger.trials if number not in kept and number not in removed]
    return [number for number in surplus if _remove(ledger, number, removed)]


def has_removed_weights(ledger: Ledger, number: int) -> bool:
    """Whether a trial had weights that were removed."""
    return (ledger.trial_folder(number) / REMOVED_FILE).is_file()


def _list_sources(ledger: Ledger) -> Iterator[int]:
    """The trials whose weights enqueued recipes start from, and so do new trainings of these with other seeds."""
    for source in ledger.trials.steering.sources:
        if (number := find_own_trial(source, ledger.folder)) is not None:
            yield number


def _is_kept_always(record: TrialRecord) -> bool:
    return (
        record.state not in (TrialState.COMPLETE, TrialState.PRUNED)
        or record.baseline is not None
        or record.confirms is not None
    )


def _list_rankings(study: StudyFile) -> list[Objective]:
    """The objective as the study ranks by it, and as validation has it."""
    return [study.objective, study.objective.model_copy(update={"ranking": "validation"})]


def _rank_by_class(trials: Trials, study: StudyFile) -> Iterator[list[int]]:
    """The complete trials of each class, best first, as the study ranks them and as validation does.

    How far all were searched for their decoding changes as others end, and with it the first order; a trial that would
    come to the front in this way is seldom behind in the second.
    """
    for objective in _list_rankings(study):
        classes: dict[str, list[tuple[float, int]]] = {}
        for number, figure in rank_trials(trials.values(), objective).figures.items():
            classes.setdefault(trials[number].recipe_class, []).append((figure, number))
        for figures in classes.values():
            yield [number for _, number in sorted(figures)]


def _remove(ledger: Ledger, number: int, removed: set[int]) -> bool:
    """Whether there were weights, which are gone now."""
    folder = ledger.trial_folder(number)
    if not any((folder / name).is_dir() for name in (CHOSEN, CHECKPOINTS)):
        removed.add(number)
        return False
    with contextlib.suppress(OSError, StoreError):  # tried again at the end of the next trial
        remove_weights(folder, f"its weights were removed, {ledger.study.disk.keep_best} of its class were better")
        removed.add(number)
    return number in removed
