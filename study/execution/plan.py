"""What a study will take: trials, hours, GPU-hours and disk, with intervals, from a probe of its base recipe.

The intervals hold what was measured (Student's t over the epochs of the probe) and what is decided on the way: which
trials are stopped early, and which decoding is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

from model.corpora.corpus import Corpus, Role
from model.recipe.recipe import Recipe
from model.training.probe import Probe
from study.config.study_file import StudyFile
from study.execution.disk_forecast import forecast_bytes

Interval = tuple[float, float]
CONFIDENCE = 0.95
FEATURE_BYTES = 100 * 80 * 2  # of a second: frames, mel bins, float16
MOST_SCORING = 0.1  # of an epoch's training, that scoring after it should take
FEWEST = 20  # dev utterances that trials can still be compared by
WIDEST_BEAM = 8  # whose scoring is taken to last so many times as long as validation's


@dataclass(frozen=True)
class Plan:
    """What a study will take; seconds and hours are lowest and highest."""

    trials: int
    confirmations: int
    concurrency: int
    epochs: int
    epoch_steps: int
    epoch_seconds: Interval
    training_seconds: float  # of an epoch's steps, and of scoring dev sets after them
    scoring_seconds: float
    scored: int  # utterances of the dev sets that are
    fewest: int  # that can be
    trial_seconds: Interval
    hours: Interval
    gpu_hours: Interval
    disk_bytes: int


def make_plan(
    study: StudyFile, base: Recipe, corpus: Corpus, probe: Probe, trials: int, confirmations: int, concurrency: int
) -> Plan:
    """The plan of a study of so many trials, baselines included, and new trainings of finalists."""
    steps, workers = _epoch_steps(base, probe), study.workers.count
    step, scoring = _interval(probe.step), _interval(probe.scoring)
    scored_after_epochs = _count_scored(base, corpus)
    dev = _seconds(corpus, "dev") * scored_after_epochs / _count_utterances(corpus) / workers
    epoch = _add(_scale(step, steps), _scale(scoring, dev))
    search = base.decoding_search.share * steps * base.training.epochs * step[1]
    whole = _add(_scale(epoch, base.training.epochs), (0.0, search))
    shortest = min(trials, _complete_trials(study, trials)) * whole[0]
    stopped = max(0, trials - _complete_trials(study, trials)) * epoch[0] * _first_rung(study)
    tests = _scale(scoring, _seconds(corpus, "test") / workers)
    scored = _scored_trials(study, trials, confirmations)
    final = _add(_scale(whole, confirmations), (tests[0] * scored, tests[1] * scored * WIDEST_BEAM))
    total = _add((shortest + stopped, trials * whole[1]), final)
    hours = _scale(total, 1 / 3600 / concurrency)
    weights = forecast_bytes(study, base.training, probe.weight_bytes, trials, confirmations, concurrency)
    return Plan(
        trials=trials,
        confirmations=confirmations,
        concurrency=concurrency,
        epochs=base.training.epochs,
        epoch_steps=steps,
        epoch_seconds=epoch,
        training_seconds=fmean(probe.step) * steps,
        scoring_seconds=fmean(probe.scoring) * dev,
        scored=scored_after_epochs,
        fewest=max(FEWEST, len(corpus.set_names("dev"))),
        trial_seconds=whole,
        hours=hours,
        gpu_hours=_scale(total, workers * study.workers.gpus / 3600),
        disk_bytes=weights + _feature_bytes(base, corpus),
    )


def describe_plan(plan: Plan) -> Iterator[str]:
    """The lines that a user reads; the last one only where scoring dev sets takes more than a tenth of training."""
    confirmed = f", then {plan.confirmations} to confirm finalists" if plan.confirmations else ""
    yield f"{plan.trials} trials{confirmed}, {plan.concurrency} at a time"
    steps = f"{plan.epochs} epochs of {plan.epoch_steps} steps"
    yield f"a whole training: {_format(plan.trial_seconds, 's')}, {steps}, an epoch {_format(plan.epoch_seconds, 's')}"
    gpus = f", {_format(plan.gpu_hours, 'GPU-hours')}" if plan.gpu_hours[1] else ""
    disk = f"{plan.disk_bytes / 2**30:.2g} GiB of disk, features included"
    lasts = _format(plan.hours, "hours") if plan.hours[1] >= 1 else _format(_scale(plan.hours, 60.0), "minutes")
    yield f"the study: {lasts}{gpus}, {disk}"
    yield "low: as many trials as the rule may are stopped early; high: none is, and the widest beam is the best"
    yield from _advise_on_scoring(plan)


def _advise_on_scoring(plan: Plan) -> Iterator[str]:
    share = round(plan.scoring_seconds / plan.training_seconds, 6)  # 0.1 is not to become a hair more
    if share <= MOST_SCORING:
        return
    line = f"scoring {plan.scored} dev utterances takes {100 * share:.0f} % of the time that an epoch trains; "
    fitting = _round_down(round(plan.scored * MOST_SCORING / share, 6))
    if fitting >= plan.fewest:
        yield f"{line}validation.utterances: {fitting} would make it {100 * MOST_SCORING:.0f} %"
    else:
        left = min(1.0, plan.fewest / plan.scored)
        steps = math.ceil(round(plan.epoch_steps * share * left / MOST_SCORING, 6))
        fewest = f"validation.utterances: {plan.fewest} and " if plan.fewest < plan.scored else ""
        share_then = f"would make it {100 * MOST_SCORING:.0f} %"
        yield f"{line}{fewest}training.epoch_steps: {steps}, with fewer epochs, {share_then}"


def _round_down(number: float) -> int:
    """To two digits."""
    unit = 10 ** max(0, len(str(int(number))) - 2)
    return int(number) // unit * unit


def _count_utterances(corpus: Corpus) -> int:
    return sum(corpus.sets[name].utterances for name in corpus.set_names("dev"))


def _count_scored(base: Recipe, corpus: Corpus) -> int:
    """The dev utterances that are scored after each epoch."""
    count = _count_utterances(corpus)
    return count if base.validation.utterances is None else min(base.validation.utterances, count)


def _epoch_steps(base: Recipe, probe: Probe) -> int:
    training = base.training
    if training.epoch_steps is not None:
        return training.epoch_steps
    return max(1, round((training.epoch_share or 1.0) * probe.pass_steps))


def _complete_trials(study: StudyFile, trials: int) -> int:
    """How many trials run to their end whatever they show."""
    stopping = study.early_stopping
    if stopping.rule == "none":
        return trials
    if stopping.rule == "evidence":
        return stopping.complete_first + max(0, trials - stopping.complete_first) // 10
    return len(study.baselines) + math.ceil(max(0, trials - len(study.baselines)) / stopping.reduction)


def _first_rung(study: StudyFile) -> int:
    """Epochs that a trial has at least."""
    return 1 if study.early_stopping.rule == "evidence" else study.early_stopping.grace_epochs


def _scored_trials(study: StudyFile, trials: int, confirmations: int) -> int:
    """How many trials' test sets are scored."""
    best = len(study.baselines) + confirmations + 1
    return {"best": best, "all": trials + confirmations, "none": 0}[study.score_tests]


def _seconds(corpus: Corpus, role: Role) -> float:
    return sum(corpus.sets[name].seconds for name in corpus.set_names(role))


def _feature_bytes(base: Recipe, corpus: Corpus) -> int:
    if base.augmentation.changes_waveforms:
        return round(FEATURE_BYTES * (_seconds(corpus, "dev") + _seconds(corpus, "test")))
    train = sum(_seconds(corpus, "train") / speed for speed in base.data.speeds)
    return round(FEATURE_BYTES * (train + _seconds(corpus, "dev") + _seconds(corpus, "test")))


def _interval(values: tuple[float, ...]) -> Interval:
    """Of the mean of the values; not below half of the smallest, since three values say little of their spread."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, mean
    from scipy.special import stdtrit  # takes a while to import

    quantile = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    half = quantile * stdev(values) / math.sqrt(len(values))
    return max(mean - half, min(values) / 2), mean + half


def _scale(interval: Interval, by: float) -> Interval:
    return interval[0] * by, interval[1] * by


def _add(one: Interval, other: Interval) -> Interval:
    return one[0] + other[0], one[1] + other[1]


def _format(interval: Interval, unit: str) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g} {unit}"
