"""What the study's own run must hold, the parent of all others: a function of all trials and of the study's files.

Its note begins with the verdict, of which MLflow's lists show the first line; until there is one, with the best trial.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from study.config.search_settings import SEED
from study.config.study_file import Objective, StudyFile
from study.config.tracking_uri import mask_text
from study.ledger.best import find_best, rank_trials
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.tracking.run_content import (
    MAX_TAG,
    NOTE,
    ROLE,
    STATUS,
    Corpus,
    Point,
    RunContent,
    clean_text,
    name_role,
    to_milliseconds,
)
from study.tracking.views import BEST, best_curve_name, build_views
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict

_MAX_DIGEST = 36  # characters of a dataset's digest that MLflow takes
STUDY_ROLE = "study"
STUDY_FILE = "study.yaml"
FILES = (STUDY_FILE, "manifest.json", "trials.csv", "report.html")  # in a study's folder, as far as they exist


def build_study_run(
    trials: Trials,
    name: str,
    objective: Objective | None = None,
    files: tuple[tuple[str, int], ...] = (),
    study: StudyFile | None = None,
) -> RunContent:
    """The study's own run, and the views of its page; `files` as `find_files` has them. What the `study` has used of
    its budget is in tags."""
    objective = objective or Objective()
    state = trials.study_state
    tags = {"study.status": state.value, ROLE: STUDY_ROLE}
    if study is not None and study.budget is not None:
        used = trials.spent.measure(study.budget, study.workers)
        tags |= {f"budget.{name}": f"{used[name]:.3g} of {limit:g}" for name, limit in study.budget.limits.items()}
    if trials.best is not None:
        number, recipe_hash = trials.best
        tags |= {"study.best_trial": str(number), "study.best_recipe_hash": recipe_hash}
    if lines := _describe(trials, objective):
        tags[NOTE] = clean_text("\n\n".join(lines), MAX_TAG)
    ended = trials.changed if state not in (TrialState.WAITING, TrialState.RUNNING) else None
    return RunContent(
        number=None,
        name=name,
        status=STATUS[state],
        started=to_milliseconds(trials.began or 0.0),
        ended=None if ended is None else to_milliseconds(ended),
        tags=tags,
        curve=make_best_curve(trials.values(), objective),
        views=build_views(trials, objective) if trials else {},
        files=files,
    )


def describe_corpus(folder: str, manifest: Mapping[str, Any]) -> Corpus | None:
    """The corpus that all trials share; None where an early manifest has no fingerprint of it."""
    fingerprint = manifest.get("hashes", {}).get("corpus")
    return None if not fingerprint else Corpus(Path(folder).name, str(fingerprint)[:_MAX_DIGEST], folder)


def find_files(study_folder: Path) -> tuple[tuple[str, int], ...]:
    """The study's files that its run shows, each with a checksum, because a session writes them again as they were.

    A study file of an earlier version that holds a password is left out.
    """
    found = []
    for name in FILES:
        with contextlib.suppress(OSError):
            content = (study_folder / name).read_bytes()
            if name != STUDY_FILE or mask_text(text := content.decode(errors="replace")) == text:
                found.append((name, zlib.crc32(content)))
    return tuple(found)


def list_roles(trials: Trials) -> dict[int, str]:
    """What each trial is for: baseline, proposal, repeat of another one with a new seed, finalist or confirmation."""
    chosen = () if trials.selection is None else trials.selection.finalists
    finalists = {finalist.number for finalist in chosen}
    first: dict[str, int] = {}  # of the trials with the same values, apart from the seed
    roles = {}
    for number, record in trials.items():
        roles[number] = name_role(record)
        if number in finalists:
            roles[number] = "finalist"
        elif record.confirms is None:
            before = first.setdefault(_identify(record.values), number)
            if before != number and SEED in record.values and record.baseline is None:
                roles[number] = f"repeat of {before:04d}"
    return roles


def _identify(values: Mapping[str, Any]) -> str:
    return str(sorted((name, str(value)) for name, value in values.items() if name != SEED))


def make_best_curve(records: Iterable[TrialRecord], objective: Objective) -> dict[Point, float]:
    """The best figure so far after each trial that became complete; the step is their number.

    A trial's own figure, which later trials do not change, because MLflow can take no point back. One that a later
    decoding changed is another point, of that time, which MLflow takes for the newer one; so are those after it.
    """
    name = best_curve_name(objective)
    metric = name.removeprefix(BEST)
    complete = [record for record in records if record.state is TrialState.COMPLETE and record.confirms is None]
    usable = [record for record in complete if math.isfinite(record.final_metrics.get(metric, math.nan))]
    curve, best, time = {}, math.inf, 0.0
    for step, record in enumerate(sorted(usable, key=lambda record: (record.ended or 0.0, record.number)), start=1):
        best = min(best, record.final_metrics[metric])
        time = max(time, record.rescored.get(metric, 0.0))
        curve[name, step, to_milliseconds(max(time, record.ended or 0.0))] = best
    return curve


def _describe(trials: Trials, objective: Objective) -> list[str]:
    """The lines of the study's note, the most important first."""
    verdict = make_verdict(trials)
    # Lists of runs show 50 letters of the first line, which is enough for "no difference in WER shown between ...".
    lines = [] if verdict is None else [line.removeprefix("verdict: ") for line in describe_verdict(verdict)]
    best = find_best(trials.values(), objective)
    if best is not None:
        ranking = rank_trials(trials.values(), objective)
        figure = ranking.figures.get(best.number)
        shown = "" if figure is None else f", {ranking.metric} {figure:.2f}"
        of_class = f" ({best.recipe_class})" if best.recipe_class else ""
        lines = [*lines, f"best so far: trial {best.number:04d}{of_class}{shown}"]
    return lines
