"""A study's report, from its ledger: everything that any form of it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from study.ledger.best import Ranking, find_best, rank_figures, rank_trials
from study.ledger.ledger import Ledger
from study.ledger.manifest import find_version
from study.ledger.pareto import make_front
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.report import negative
from study.report.answers import make_tests_part, make_verdict_part
from study.report.importances import make_importance_part
from study.report.labels import label_metric
from study.report.landscape import (
    list_quantities,
    make_objectives_plane,
    make_placements,
    make_planes,
    measure_associations,
)
from study.report.origin import make_origin
from study.report.progress import make_decodings, make_hours, make_progress
from study.report.standings import make_headline, make_standings
from study.report.trials import HOUR, choose_columns, count_states, make_trials
from study.report.value import Report


def make_report(ledger: Ledger) -> Report:
    """What the study has found until now; a study without trials has a report, too."""
    study, events = ledger.study, ledger.log.read()
    folded = Trials(events)  # of the same moment as the events
    records = list(folded.values())
    ranking, best = rank_trials(records, study.objective), find_best(records, study.objective)
    trials = make_trials(records, study.objective, ranking, folded.began or 0.0)
    quantities = list_quantities(trials, study)
    counts, label, state = count_states(records), label_metric(ranking.metric), folded.study_state.value
    verdict = make_verdict_part(folded, study.effective_question, ledger.trial_folder)
    standings = make_standings(records, _complete_figures(records, ranking, ledger), best)
    report = Report(
        name=study.name,
        question=study.effective_question,
        state=state,
        objective=study.objective.metric,
        ranked_by=ranking.metric,
        ranked_label=label,
        ranked_stage=ranking.stage,
        version=find_version(),
        made_of=folded.changed,
        counts=counts,
        headline=tuple(make_headline(verdict, standings, counts, state, label)),
        standings=tuple(standings),
        trials=tuple(trials),
        columns=choose_columns(trials),
        quantities=tuple(quantities),
        verdict=verdict,
        tests=make_tests_part(records, ledger.manifest.get("references") or {}),
        planes=(*make_planes(trials), *make_objectives_plane(make_front(records, study.objective))),
        placements=make_placements(trials),
        associations=tuple(measure_associations(trials, quantities)),
        importance=make_importance_part(ledger, ranking.figures),
        progress=make_progress(records, trials, study),
        decodings=tuple(make_decodings(folded, _choose_decoded(folded, best), ledger.trial_folder)),
        hours=make_hours(records, trials, _measure_wall(folded)),
        failures=negative.make_failures(trials),
        origin=make_origin(ledger, events, best),
    )
    return replace(report, not_helped=tuple(negative.list_not_helped(report, folded, ranking.figures, best, study)))


def _complete_figures(records: Sequence[TrialRecord], ranking: Ranking, ledger: Ledger) -> Mapping[int, float]:
    """The figures of the search, and those of confirmations where they are of the same metric."""
    confirming = rank_figures([record for record in records if record.confirms is not None], ledger.study.objective)
    return ranking.figures | (confirming.figures if confirming.metric == ranking.metric else {})


def _choose_decoded(trials: Trials, best: TrialRecord | None) -> dict[int, str]:
    """Whose decodings are shown: the finalists', and the best trial's."""
    chosen = {}
    if trials.selection is not None:
        chosen = {one.number: f"finalist of {one.recipe_class}" for one in trials.selection.finalists}
    if best is not None:
        chosen.setdefault(best.number, "best trial")
    return {number: why for number, why in chosen.items() if number in trials}


def _measure_wall(trials: Trials) -> float | None:
    if trials.began is None or trials.changed is None:
        return None
    return (trials.changed - trials.began) / HOUR
