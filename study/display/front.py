"""The Pareto front of a study of two objectives, in lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from study.config.study_file import Objective
from study.display.table import format_metric
from study.ledger.best import MOST_SHOWN
from study.ledger.pareto import make_front
from study.ledger.records import TrialRecord

MOST_TRIALS = 20  # lines


def describe_front(records: Iterable[TrialRecord], objective: Objective, study: Path) -> Iterator[str]:
    """The trials on the front, and the command that exports one; nothing for a study of one objective.

    `study` is the path that the user gave.
    """
    front = make_front(records, objective)
    if front is None:
        return
    first, second = front.metrics
    if not front.compared:
        names = f"{objective.metric} and {objective.second}"
        yield f"Pareto front of {names}: no complete trial within the limits has both figures yet"
    else:
        count = len(front.compared)
        yield (
            f"Pareto front of {first} and {second}: {len(front.trials)} of {count} complete "
            f"trial{'' if count == 1 else 's'}, which no other one dominates"
            + (f"; {first} by the best decoding until the stage '{front.stage}'" if front.stage is not None else "")
        )
    for one in front.trials[:MOST_TRIALS]:
        figures = f"{first} {format_metric(first, one.first)}  {second} {format_metric(second, one.second)}"
        yield f"  {one.number:04d}  {figures}"
    if len(front.trials) > MOST_TRIALS:
        yield f"  and {len(front.trials) - MOST_TRIALS} more, which `status --json` has"
    if front.lacking:
        shown = ", ".join(f"{number:04d}" for number in front.lacking[:MOST_SHOWN])
        more = f" and {len(front.lacking) - MOST_SHOWN} more" if len(front.lacking) > MOST_SHOWN else ""
        yield f"  complete but without {second}: {shown}{more}"
    if front.trials:
        yield f"  to export one of them: decred-study export {study} --trial N"
