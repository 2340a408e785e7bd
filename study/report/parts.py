"""The parts of a report: frozen values, each with every number of a section.

Every part that may leave something out has `notes`: what, how much and why, or why there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Notes = tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A trial. `figure` is what complete trials are ranked by; `last` the objective after the last epoch.

    Times are hours since the study began, `spent` hours by what they were spent on.
    """

    number: int
    state: str
    recipe_class: str
    name: str  # its baseline, or what it confirms
    is_search: bool  # whether it is no confirmation
    figure: float | None
    last: float | None
    values: Mapping[str, Any]
    metrics: Mapping[str, float]
    epochs: int
    planned: int | None
    started: float | None
    ended: float | None
    retries: int
    reason: str | None
    source: str | None
    spent: Mapping[str, float]
    curves: Mapping[str, tuple[float | None, ...]]  # metric -> value after each epoch of `at`
    at: tuple[int, ...]


@dataclass(frozen=True)
class Standing:
    """A trial that the first screen names: the best one, a baseline, the best of a class."""

    role: str
    number: int
    state: str
    figure: float | None
    recipe_class: str
    values: Mapping[str, Any]
    behind: float | None  # the best trial, in points


@dataclass(frozen=True)
class Effect:
    """A figure's difference between the two classes on a set, over common seeds, as the verdict has it."""

    figure: str
    name: str
    is_overall: bool
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    coverage: float  # of the interval
    p: float
    corrected: float
    is_shown: bool
    first_seeds: tuple[float, ...]
    second_seeds: tuple[float, ...]


@dataclass(frozen=True)
class Luck:
    """What a finalist was chosen by, and the mean of the same figure over its new seeds."""

    recipe_class: str
    number: int
    of: int
    selected: float
    replicated: float
    difference: float


@dataclass(frozen=True)
class VerdictPart:
    """What is shown of the study's two classes; no classes where there is no verdict, of which `notes` say why."""

    lines: Notes = ()
    classes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    effects: tuple[Effect, ...] = ()
    luck: tuple[Luck, ...] = ()
    looks: int | None = None
    models: Notes = ()  # of single models, where there are too few seeds
    notes: Notes = ()


@dataclass(frozen=True)
class TestRow:
    """Figures of one model, or published ones, by set: WER and perplexity of the internal LM."""

    name: str
    number: int | None
    recipe_class: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class TestsPart:
    """Test sets and macro averages of all trials that were scored on them, with published figures where there are."""

    sets: tuple[str, ...]
    rows: tuple[TestRow, ...]
    published: tuple[TestRow, ...]
    notes: Notes


@dataclass(frozen=True)
class Point:
    """A trial in a plane."""

    number: int
    x: float
    y: float
    on_front: bool


@dataclass(frozen=True)
class Plane:
    """A figure against another one: WER against the perplexity of the internal language model, or the study's own two
    objectives. The front are trials that no other one dominates."""

    name: str
    x_metric: str
    y_metric: str
    points: tuple[Point, ...]
    notes: Notes
    is_objectives: bool = False


@dataclass(frozen=True)
class Cell:
    """The figures of the trials with one placement, in one range of the final classifier's weight."""

    placement: str
    column: int | None  # of the heat map; None is all of the placement's
    count: int
    mean: float
    low: float | None  # of the mean's interval; None for a single trial
    high: float | None
    best: float
    best_trial: int


@dataclass(frozen=True)
class PlacementPart:
    """Where classifiers were placed, with which weight: the edges of the weights' ranges, and the cells that have
    trials."""

    placements: tuple[str, ...]
    edges: tuple[float, ...]
    cells: tuple[Cell, ...]
    totals: tuple[Cell, ...]
    notes: Notes


@dataclass(frozen=True)
class Quantity:
    """A searched quantity: its kind, and the values that categories have in their order."""

    name: str
    label: str
    is_number: bool
    is_log: bool
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Association:
    """The rank correlation of a quantity with the figure, with its interval."""

    quantity: str
    rho: float
    low: float | None
    high: float | None
    trials: int


@dataclass(frozen=True)
class Importance:
    """How much a quantity separates the best trials from all, with a bootstrap band, and what chance gives."""

    quantity: str
    importance: float
    low: float
    high: float
    chance: float
    has_signal: bool


@dataclass(frozen=True)
class ImportancePart:
    """The importance of each searched quantity."""

    rows: tuple[Importance, ...]
    trials: int
    left_out: Mapping[str, int]  # why -> trials
    share: float | None  # the best trials that are compared with all
    notes: Notes


@dataclass(frozen=True)
class Rung:
    """How well a metric at an epoch ranks trials as their ends do."""

    epoch: int
    metric: str
    rho: float
    low: float | None
    high: float | None
    trials: int
    kind: str  # `objective`, or `best` of all metrics, whose interval is of all that was looked at


@dataclass(frozen=True)
class ProgressPart:
    """The best figure so far by trial, the distribution of the figures, and evidence of rungs."""

    best_so_far: tuple[tuple[int, float], ...]
    distributions: Mapping[str, tuple[tuple[float, float], ...]]  # class -> (figure, share of trials up to it)
    rungs: tuple[Rung, ...]
    lines: Notes
    notes: Notes


@dataclass(frozen=True)
class Decoding:
    """A decoding that was tried on the dev sets of a trial's model."""

    stage: str
    ctc_weight: float
    beam: int
    length_penalty: float
    mixing: str
    language_models: str
    wer: float
    sets: Mapping[str, float]
    seconds: float | None
    is_best: bool


@dataclass(frozen=True)
class DecodingSurface:
    """What the search for a trial's decoding tried."""

    number: int
    recipe_class: str
    why: str
    tried: tuple[Decoding, ...]
    stages: tuple[tuple[str, float], ...]  # the best WER until each stage's end


@dataclass(frozen=True)
class HoursPart:
    """Hours by group of trials and by what they were spent on, and what early stopping saved."""

    kinds: tuple[str, ...]
    groups: Mapping[str, Mapping[str, float]]  # the last one, `all`, is the sum of all of them
    sums: Mapping[str, float]  # of each group
    devices: Mapping[str, float]
    wall: float | None  # from the study's first event to its last
    stopped: int
    saved: float
    saved_share: float | None  # of what all trials to their end would have taken
    notes: Notes


@dataclass(frozen=True)
class Table:
    """A small table of texts."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class OriginPart:
    """Where the figures come from, and what makes them again."""

    tables: tuple[Table, ...]  # inputs and machine, packages, sessions
    commands: Notes
    study_file: str
    best_recipe: str
    settings: Mapping[str, str]  # of the study file, by dotted key
