"""What a class's sampler learns from the trials of the other classes: where the quantities that both search are good.

Their values are moved so that both classes have the same median: classes may differ, while what is better within one of
them is likely to be better in the other. Parameters of the classifiers are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

import optuna
from optuna.trial import FrozenTrial

from study.search.classifiers import AUXILIARY


def project_trials(own: Sequence[FrozenTrial], others: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of other classes as a sampler of this class takes them; none where either has no value yet."""
    ours, theirs = _list_values(own), _list_values(others)
    if not ours or not theirs:
        return []
    columns = zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True)
    shifts = [median(our) - median(their) for our, their in columns]  # of each objective
    return [_project(trial, shifts) for trial in others if trial.state.is_finished()]


def _list_values(trials: Iterable[FrozenTrial]) -> list[list[float]]:
    """The values of each complete trial, one for each objective."""
    return [
        trial.values
        for trial in trials
        if trial.state is optuna.trial.TrialState.COMPLETE and trial.values and all(map(math.isfinite, trial.values))
    ]


def _project(trial: FrozenTrial, shifts: Sequence[float]) -> FrozenTrial:
    names = [name for name in trial.params if not name.startswith(AUXILIARY)]
    projected = optuna.create_trial(
        state=trial.state,
        values=None if not trial.values else [value + shift for value, shift in zip(trial.values, shifts, strict=True)],
        params={name: trial.params[name] for name in names},
        distributions={name: trial.distributions[name] for name in names},
        intermediate_values={epoch: value + shifts[0] for epoch, value in trial.intermediate_values.items()},
    )
    projected.number = trial.number
    for name, value in trial.constraints.items():
        projected.set_constraint(name, value)
    return projected
