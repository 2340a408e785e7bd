"""A search on a planted surface by Optuna's samplers where placement is a depth and not a name.

The code has the same parameters whatever the number of classifiers: the deepest layer, then each layer's depth among
those that are left above it, and one share for each classifier but the last. Each is a number in [0, 1], in order from
shallow to deep; uniform numbers are uniform subsets of the layers. What a count does not need is drawn, and unused.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from itertools import accumulate

import optuna
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from planted_surfaces import BASE, BEST, MOST, RANGES, Place, Surface

from study.search.classifiers import MAX_SHARE, MIN_SHARE, shares_to_weights

STARTUP = 5
UNTRAINABLE = "untrainable"
MakeSampler = Callable[[int, int], BaseSampler]  # seed, number of the trial


def make_tpe(seed: int, number: int) -> BaseSampler:
    """TPE as studies have it, but for groups, which this code does not need."""
    return TPESampler(
        n_startup_trials=STARTUP,
        multivariate=True,
        constant_liar=True,
        seed=seed * 1000 + number,
        constraints_func=_list_constraints,
    )


def make_gp(seed: int, number: int) -> BaseSampler:
    """A Gaussian process with noise."""
    return GPSampler(n_startup_trials=STARTUP, seed=seed * 1000 + number, constraints_func=_list_constraints)


def make_mixture(seed: int, number: int) -> BaseSampler:
    """Both in turns."""
    return (make_gp if number % 2 else make_tpe)(seed, number)


def choose_layers(depths: list[float], count: int) -> tuple[int, ...]:
    """The deepest layer by the first of the depths, the next one among those above it by the second, ..."""
    layers, left = list[int](), BASE.decoder.layers - 1
    for place, depth in zip(range(count, 0, -1), depths, strict=False):
        # Of all subsets of `place` layers, comb(layer - 1, place - 1) have this one as their deepest.
        ends = list(accumulate(math.comb(layer - 1, place - 1) for layer in range(place, left + 1)))
        index = next(index for index, end in enumerate(ends) if depth * ends[-1] <= end)
        layers.append(place + index)
        left = layers[-1] - 1
    return tuple(sorted(layers))


def suggest_place(trial: Trial) -> Place:
    """Where the trial lies on a surface."""
    ctc, rate, smoothing = (trial.suggest_float(name, 0.0, 1.0) for name in RANGES)
    count = trial.suggest_int("count", 0, MOST)
    mass = trial.suggest_float("mass", 0.1, 0.7)
    depths = [trial.suggest_float(f"depth.{number}", 0.0, 1.0) for number in range(MOST)]
    shares = [trial.suggest_float(f"share.{number}", MIN_SHARE, MAX_SHARE) for number in range(MOST - 1)]
    weights = shares_to_weights(mass, shares[: count - 1]) if count else []
    return Place(ctc, rate, smoothing, choose_layers(depths, count), tuple(weights))


def find_regret(surface: Surface, seed: int, trials: int, noise: float, make_sampler: MakeSampler) -> float:
    """How far the trial with the lowest observed WER is above the optimum in truth."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    true: dict[int, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study()
        for number in range(trials):
            study.sampler = make_sampler(seed, number)
            trial = study.ask()
            wer = surface(suggest_place(trial))
            if math.isfinite(wer):
                true[number] = wer
                study.tell(trial, wer + noise * random.Random(f"{seed} {number}").gauss(0.0, 1.0))
            else:  # samplers look at trials with a value alone: as bad as the worst, and marked
                trial.set_user_attr(UNTRAINABLE, 1.0)
                study.tell(trial, max([BEST, *true.values()]))
    chosen = [one for one in study.get_trials(states=[TrialState.COMPLETE]) if one.number in true]
    return true[min(chosen, key=lambda one: one.values[0]).number] - BEST if chosen else math.inf


def _list_constraints(trial: FrozenTrial) -> list[float]:
    return [trial.user_attrs.get(UNTRAINABLE, -1.0)]
