"""How a study went: best figure so far, distribution of figures, evidence of rungs, decodings, hours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.weights.found_decoding import describe_language_models, read_found
from study.config.study_file import StudyFile
from study.evidence.rank_correlation import describe_rungs, estimate_interval, spearman
from study.evidence.rungs import choose_unselected, find_evidence
from study.ledger.records import TrialRecord, TrialState
from study.report.landscape import describe_left_out
from study.report.parts import Decoding, DecodingSurface, HoursPart, ProgressPart, Rung, Trial
from study.report.trials import HOUR, KINDS


def make_progress(records: Sequence[TrialRecord], trials: Sequence[Trial], study: StudyFile) -> ProgressPart:
    """The best figure so far, the distribution of figures by class, and what rungs are worth."""
    searched = [trial for trial in trials if trial.is_search]
    usable = [trial for trial in searched if trial.figure is not None]
    return ProgressPart(
        best_so_far=tuple(_list_best(usable)),
        distributions=_make_distributions(usable),
        rungs=(*measure_rungs(records, study.objective.metric), *_find_best_rungs(records, study)),
        lines=tuple(describe_rungs(records, study)),
        notes=tuple(describe_left_out(searched, usable)),
    )


def _list_best(trials: Sequence[Trial]) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for trial in trials:
        assert trial.figure is not None
        if not steps or trial.figure < steps[-1][1]:
            steps.append((trial.number, trial.figure))
    return steps


def _make_distributions(trials: Sequence[Trial]) -> dict[str, tuple[tuple[float, float], ...]]:
    classes = dict.fromkeys(trial.recipe_class or "all" for trial in trials)
    found = {}
    for name in classes:
        figures = sorted(
            trial.figure for trial in trials if (trial.recipe_class or "all") == name and trial.figure is not None
        )
        found[name] = tuple((figure, (number + 1) / len(figures)) for number, figure in enumerate(figures))
    return found


def measure_rungs(records: Sequence[TrialRecord], metric: str) -> list[Rung]:
    """For every epoch before the last, the rank correlation of the objective there with that at the end."""
    curves = [
        record.curve(metric) for record in records if record.confirms is None and record.state is TrialState.COMPLETE
    ]
    curves = [curve for curve in curves if curve and math.isfinite(curve[max(curve)])]
    rungs = []
    for epoch in sorted({epoch for curve in curves for epoch in curve}):
        passed = [curve for curve in curves if max(curve) > epoch and math.isfinite(curve.get(epoch, math.nan))]
        rho = spearman([curve[epoch] for curve in passed], [curve[max(curve)] for curve in passed])
        if rho is not None:
            low, high = estimate_interval(rho, len(passed))
            rungs.append(Rung(epoch, metric, rho, low, high, len(passed), "objective"))
    return rungs


def _find_best_rungs(records: Sequence[TrialRecord], study: StudyFile) -> list[Rung]:
    """For every epoch the metric that ranks best of all, with an interval that allows for so many looks."""
    usable = {
        record.number: record for record in records if record.confirms is None and record.state is not TrialState.FAILED
    }
    ended = [number for number, record in usable.items() if record.has_all_epochs]
    stopped = [number for number, record in usable.items() if record.state is TrialState.PRUNED]
    named = [number for number, record in usable.items() if record.baseline]
    sample = choose_unselected(ended, stopped, named, study.early_stopping.complete_first)
    found = find_evidence([usable[number].reports for number in sample], study.objective.metric)
    return [Rung(one.epoch, one.metric, one.rho, one.low, one.high, one.trials, "best") for one in found.values()]


def make_decodings(
    records: Mapping[int, TrialRecord], chosen: Mapping[int, str], find_folder: Any
) -> list[DecodingSurface]:
    """What the searches for a decoding tried for these trials, of which `chosen` has the number and why it is shown."""
    found = []
    for number, why in chosen.items():
        record = records[number]
        tried = record.tried_decodings or _read_tried(find_folder(number))
        if tried:
            surface = DecodingSurface(number, record.recipe_class, why, _list_decodings(tried), _list_stages(record))
            found.append(surface)
    return found


def _read_tried(folder: Path) -> tuple[dict[str, Any], ...]:
    try:
        found = read_found(folder)
    except UserError:  # a damaged file: the report says that nothing is known
        return ()
    return tuple(found.tried) if found is not None else ()


def _list_stages(record: TrialRecord) -> tuple[tuple[str, float], ...]:
    return tuple(
        (str(stage["stage"]), float(stage["metrics"]["dev/wer"]))
        for stage in record.decoding_stages
        if "dev/wer" in stage.get("metrics", {})
    )


def _list_decodings(tried: Sequence[Mapping[str, Any]]) -> tuple[Decoding, ...]:
    rates = [_pool(list(one["words"].values())) for one in tried]
    best = min(range(len(tried)), key=lambda index: (rates[index], tried[index]["decoding"]["beam"]))
    return tuple(
        Decoding(
            stage=str(one.get("stage", "")),
            ctc_weight=float(one["decoding"]["ctc_weight"]),
            beam=int(one["decoding"]["beam"]),
            length_penalty=float(one["decoding"].get("length_penalty", 1.0)),
            mixing=_format_mixing(one["decoding"].get("mixing", "none")),
            language_models=describe_language_models(one["decoding"]),
            wer=rate,
            sets={name: _pool([edits]) for name, edits in one["words"].items()},
            seconds=one.get("seconds"),
            is_best=index == best,
        )
        for index, (one, rate) in enumerate(zip(tried, rates, strict=True))
    )


def _format_mixing(mixing: Any) -> str:
    return str(mixing) if isinstance(mixing, str) else ", ".join(f"{share:.2g}" for share in mixing)


def _pool(edits: Sequence[Sequence[float]]) -> float:
    """100 (S + D + I) / N of [S, D, I, N] together."""
    words = sum(one[3] for one in edits)
    return 100.0 * sum(sum(one[:3]) for one in edits) / words if words else math.nan


def make_hours(records: Sequence[TrialRecord], trials: Sequence[Trial], wall: float | None) -> HoursPart:
    """Hours by group of trials, and an estimate of what the epochs would have taken that were not run."""
    groups: dict[str, dict[str, float]] = {}
    devices: dict[str, float] = {}
    for record, trial in zip(records, trials, strict=True):
        sums = groups.setdefault(_name_group(trial), dict.fromkeys(KINDS, 0.0))
        for kind, hours in trial.spent.items():
            sums[kind] += hours
        device = next((report.device for report in record.epochs if report.device), "unknown device")
        devices[device] = devices.get(device, 0.0) + math.fsum(trial.spent.values())
    stopped = [record for record in records if record.state is TrialState.PRUNED and record.epochs]
    notes = []
    forked = sum(record.source is not None for record in records)
    if forked:
        notes.append(f"{forked} trials came from another study and took no time of this one")
    if any(sums["other"] > 0.01 for sums in groups.values()):
        notes.append("other: starting of workers, pauses at rungs, and the time between sessions of interrupted trials")
    groups = {name: sums for name, sums in groups.items() if any(sums.values())}
    if groups:
        groups["all"] = {kind: math.fsum(sums[kind] for sums in groups.values()) for kind in KINDS}
    sums_of_groups = {name: math.fsum(sums.values()) for name, sums in groups.items()}
    saved = math.fsum(estimate_saved(record) for record in stopped)
    return HoursPart(
        kinds=KINDS,
        groups=groups,
        sums=sums_of_groups,
        devices={name: hours for name, hours in devices.items() if hours},
        wall=wall,
        stopped=len(stopped),
        saved=saved,
        saved_share=saved / (sums_of_groups["all"] + saved) if groups and saved else None,
        notes=tuple(notes),
    )


def _name_group(trial: Trial) -> str:
    if not trial.is_search:
        return "confirmation"
    if trial.state == TrialState.PRUNED:
        return "search, stopped early"
    if trial.state in (TrialState.COMPLETE, TrialState.FAILED, TrialState.INFEASIBLE):
        return f"search, {trial.state}"
    return "search, not ended"


def estimate_saved(record: TrialRecord) -> float:
    """The hours that the epochs would have taken which a stopped trial did not run, at the pace of those it ran."""
    seconds = [(report.seconds.training or 0.0) + (report.seconds.validation or 0.0) for report in record.epochs]
    left = max(0, (record.planned_epochs or record.epoch) - record.epoch)
    return left * math.fsum(seconds) / len(seconds) / HOUR
