"""Finalists: the best trials of each class, which are trained again with new seeds, the same for all.

What a search has chosen was also lucky. Its figure is kept beside those of the new seeds, which alone are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from study.config.study_file import StudyFile
from study.ledger.best import rank_trials
from study.ledger.events import Finalist, FinalistsChosen
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials

FIRST_NEW_SEED = 1000  # beyond the base recipe's seed; a search repeats points with the seeds right after that


def list_new_seeds(study: StudyFile, base_seed: int) -> list[int]:
    """The seeds that every finalist is trained with."""
    return [base_seed + FIRST_NEW_SEED + number for number in range(study.confirmation.seeds)]


def count_complete(records: Iterable[TrialRecord]) -> int:
    """The trials that finalists are chosen among."""
    return sum(record.state is TrialState.COMPLETE and record.confirms is None for record in records)


def choose_finalists(records: Mapping[int, TrialRecord], study: StudyFile) -> FinalistsChosen | None:
    """The best of each class on dev, as the study ranks its trials; None where a class has none, or nothing is asked.

    Named baselines of a class are among its trials.
    """
    ranking = rank_trials(records.values(), study.objective)
    finalists: list[Finalist] = []
    for name in study.classes:
        of_class = [number for number in ranking.figures if records[number].recipe_class == name]
        if not of_class:
            return None
        best = sorted(of_class, key=lambda number: (ranking.figures[number], number))[: study.confirmation.finalists]
        finalists += [
            Finalist(number=number, recipe_class=name, figure=ranking.figures[number], of=len(of_class))
            for number in best
        ]
    if not finalists:
        return None
    stages = records[finalists[0].number].decoding_stages
    last = ranking.stage or (stages[-1]["stage"] if stages else None)
    return FinalistsChosen(
        metric=ranking.metric, stage=last, finalists=tuple(finalists), looks=count_complete(records.values())
    )


def current_selection(trials: Trials, study: StudyFile) -> FinalistsChosen | None:
    """The selection that was recorded, as long as no trial has become complete since, and the question is the same."""
    chosen = trials.selection
    if chosen is None or chosen.looks != count_complete(trials.values()):
        return None
    same = {finalist.recipe_class for finalist in chosen.finalists} == set(study.classes)
    return chosen if same else None
