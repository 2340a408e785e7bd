"""The importance of the searched quantities, and which trials it could use."""

from __future__ import annotations

from collections.abc import Mapping

from model.errors import UserError
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.report.labels import count_trials
from study.report.parts import Importance, ImportancePart

STOPPED = "stopped early: their last figures are of fewer epochs"


def make_importance_part(ledger: Ledger, figures: Mapping[int, float]) -> ImportancePart:
    """What PED-ANOVA says of the complete trials of the search; or why it says nothing."""
    from study.search import importance as measures  # imports Optuna, which takes a second

    searched = [record for record in ledger.trials.values() if record.confirms is None]
    usable = [record for record in searched if record.number in figures and record.point]
    left_out = _count_left_out(searched, figures)
    if len(usable) < measures.FEWEST:
        why = f"no importance: {count_trials(len(usable))} of {measures.FEWEST} at least can be used"
        return ImportancePart((), len(usable), left_out, None, (why,))
    try:
        space = measures.Space(ledger.study.search, ledger.base_recipe)
        measured = measures.measure_importances(
            [record.point or {} for record in usable], [figures[record.number] for record in usable], space
        )
    except (UserError, KeyError, ValueError) as error:  # points of an earlier version, or of a space that was changed
        return ImportancePart((), len(usable), left_out, None, (f"no importance: the points cannot be read ({error})",))
    rows = tuple(
        Importance(one.name, one.importance, one.low, one.high, one.chance, one.has_signal) for one in measured
    )
    notes = [
        f"PED-ANOVA of the best {100 * measures.SHARE:.0f} % against all of {count_trials(len(usable))}; bands of "
        f"{100 * measures.BAND:.0f} % from {measures.RESAMPLES} resamples"
    ]
    if not rows:
        notes = ["no signal: all trials have the same figure"]
    elif not any(row.has_signal for row in rows):
        notes.append(
            "no signal: no quantity separates the best trials from all by more than shuffled figures do in "
            f"{100 * measures.CHANCE:.0f} % of all shuffles, so no bars are drawn"
        )
    return ImportancePart(rows, len(usable), left_out, measures.SHARE, tuple(notes))


def _count_left_out(searched: list[TrialRecord], figures: Mapping[int, float]) -> dict[str, int]:
    """Why trials could not be used, and how many."""
    reasons: dict[str, int] = {}
    for record in searched:
        if record.number in figures and record.point:
            continue
        if record.state is TrialState.PRUNED:
            reason = STOPPED
        elif record.number in figures:
            reason = "complete, but outside the search space"
        else:
            reason = record.state.value if record.state is not TrialState.COMPLETE else "complete without a figure"
        reasons[reason] = reasons.get(reason, 0) + 1
    return reasons
