"""The events of a study, one class a kind. How they are written in and read from a line is in `event_lines`.

A value that is not finite is written as null and read as NaN. A field that a newer version added is ignored.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from study.ledger.budget_events import BudgetReached, SessionWorkers, TestsStarted
from study.ledger.epochs import EpochReport, TrialEpoch
from study.ledger.epochs import Seconds as Seconds  # part of the interface
from study.ledger.event_parts import Event, Metrics, Part, TrialState, Values
from study.ledger.node_events import NodeExcluded, TrialMoved


class SessionStarted(Event):
    """A driver opened the study: the first line of its event file. Whatever ran before it is interrupted.

    `sealed` gives, for each earlier event file, how many of its bytes count: a driver that was replaced while it was
    frozen may still write to its own file, and what it adds is ignored.
    """

    kind: Literal["session_started"] = "session_started"
    version: str = ""
    node: str | None = None
    process: int | None = None
    trials: int = 0  # to run in this session
    concurrency: int = 0
    changed: dict[str, list[Any]] = Field(default_factory=dict)  # what differs from the manifest: name -> [was, is]
    sealed: dict[str, int] = Field(default_factory=dict)
    workers: SessionWorkers | None = None  # of each trial; null in earlier versions
    alive_until: float | None = None  # Unix seconds: the last heartbeat of the driver before, where it was killed


class TrialStarted(Event):
    """A trial runs, for the first time or again. `values` are for people, `point` is what the sampler drew."""

    kind: Literal["trial_started"] = "trial_started"
    number: int
    recipe_hash: str = ""
    decoding: dict[str, Any] | None = None  # how its model is decoded in the end
    decoding_hash: str = ""
    training_of: int | None = None  # the trial whose training it shares: they differ in decoding alone
    values: Values = Field(default_factory=dict)
    point: Values | None = None
    baseline: str | None = None
    recipe_class: str = ""
    confirms: int | None = None  # the finalist that it trains again with another seed
    epochs: int | None = None  # that its recipe asks for
    enqueued: str | None = None  # the id of the command that asked for it
    enqueued_by: str | None = None  # a person, where no sampler proposed it


class TrialPaused(Event):
    """A trial waits at a rung, its checkpoint kept; it may be promoted and continue."""

    kind: Literal["trial_paused"] = "trial_paused"
    number: int
    epoch: int
    step: int | None = None
    reason: str | None = None


class TrialContinued(Event):
    """A trial was compared at a rung and goes on; `reason` is what the rule's ruling rests on."""

    kind: Literal["trial_continued"] = "trial_continued"
    number: int
    epoch: int
    reason: str


class TrialRetried(Event):
    """A trial lost its workers for the `count`-th time since it last got further, and continues from its checkpoint, as
    `setting` allows. Two kinds are not counted: `elsewhere`, it failed on one node and is tried again on another one;
    `in_more_parts`, a step ran out of memory, and its batches are split further from the checkpoint on.
    """

    kind: Literal["trial_retried"] = "trial_retried"
    number: int
    reason: str | None = None
    count: int  # in earlier versions since the trial began
    setting: str = ""
    lost_seconds: float | None = None  # of training since the last report
    elsewhere: bool = False
    in_more_parts: bool = False
    node: str | None = None  # the host on which it failed, where that is known
    node_id: str | None = None  # of Ray


class TrialEnded(Event):
    """A trial's end, or its interruption. `metrics` are those of the weights that its training chose.

    An infeasible point has no start, so its end carries `values`, `point` and class. `count` and `setting` are those
    that decided the end of a trial that failed.
    """

    kind: Literal["trial_ended"] = "trial_ended"
    number: int
    state: TrialState
    reason: str | None = None
    metrics: Metrics = Field(default_factory=dict)
    values: Values | None = None
    point: Values | None = None
    recipe_class: str | None = None
    count: int | None = None
    setting: str | None = None
    lost_seconds: float | None = None  # of training since the last report, where it was interrupted
    node: str | None = None  # the host on which it failed, where that is known
    node_id: str | None = None  # of Ray


class TrialImported(Event):
    """A trial of another study, whole; `source` is "study/number"."""

    kind: Literal["trial_imported"] = "trial_imported"
    number: int
    source: str
    recipe_hash: str = ""
    decoding: dict[str, Any] | None = None
    decoding_hash: str = ""
    values: Values = Field(default_factory=dict)
    point: Values | None = None
    baseline: str | None = None
    recipe_class: str = ""
    epochs: tuple[EpochReport, ...] = ()
    state: TrialState
    reason: str | None = None
    metrics: Metrics = Field(default_factory=dict)
    is_final: bool = False  # whether `metrics` are the final ones alone
    started: float | None = None
    ended: float | None = None


class TrialDecoded(Event):
    """A trial's model was decoded again after its end: with which decoding, and what it scored."""

    kind: Literal["trial_decoded"] = "trial_decoded"
    number: int
    decoding: dict[str, Any]
    decoding_hash: str
    metrics: Metrics = Field(default_factory=dict)
    seconds: float | None = None


class TrialDecodingSearched(Event):
    """The decoding of a trial's model was searched on its dev sets: what was `tried`, and the best of it.

    The search took `seconds`, a `share` of the training's.
    """

    kind: Literal["trial_decoding_searched"] = "trial_decoding_searched"
    number: int
    decoding: dict[str, Any]
    tried: tuple[dict[str, Any], ...] = ()  # each a decoding, its stage, each dev set's edits [S, D, I, N], seconds
    stages: tuple[dict[str, Any], ...] = ()  # each a stage, the best decoding until its end, and its error rates
    seconds: float | None = None
    share: float | None = None


class Finalist(Part):
    """A trial that is trained again with new seeds: the best of its class, `of` so many, by its `figure` on dev."""

    number: int
    recipe_class: str
    figure: float
    of: int


class FinalistsChosen(Event):
    """The search is over: whose configurations are confirmed with new seeds, chosen by `metric` on the dev sets.

    `stage` is how far all were searched for their decoding, and `looks` the number of complete trials so far.
    """

    kind: Literal["finalists_chosen"] = "finalists_chosen"
    metric: str
    stage: str | None = None
    finalists: tuple[Finalist, ...]
    looks: int


class Found(Part):
    """What an earlier study found best in a class: the nearest point that this study has, and the trial's number."""

    recipe_class: str
    trial: int
    point: Values


class PriorRead(Event):
    """What an earlier `study` found, best first in each class, before this one proposed anything."""

    kind: Literal["prior_read"] = "prior_read"
    study: str
    found: tuple[Found, ...]


class StudyEnded(Event):
    """All that was to be done is done; complete, or failed where no trial completed."""

    kind: Literal["study_ended"] = "study_ended"
    state: TrialState
    best: int | None = None
    best_recipe_hash: str | None = None


class StudyInterrupted(Event):
    """The study stops before its end and may be continued; `best` is the best so far."""

    kind: Literal["study_interrupted"] = "study_interrupted"
    reason: str | None = None
    best: int | None = None
    best_recipe_hash: str | None = None


class ControlGiven(Event):
    """A person steered the study: who, what (`command`), of which trial, with which value.

    `retry` reopens a trial that failed or is infeasible: it continues from its last checkpoint. `use` has the node
    `value`, which was excluded, used again. What the others do: `study.ledger.steering`.
    """

    kind: Literal["control_given"] = "control_given"
    who: str
    command: str
    number: int | None = None
    value: str | None = None
    id: str | None = None  # of the command that was given; one that comes again has no effect
    before: str | None = None  # what the study file said of a setting that is changed


AnyEvent = (
    SessionStarted
    | TrialStarted
    | TrialEpoch
    | TrialPaused
    | TrialContinued
    | TrialRetried
    | TrialMoved
    | TrialEnded
    | TrialImported
    | TrialDecoded
    | TrialDecodingSearched
    | TestsStarted
    | BudgetReached
    | FinalistsChosen
    | PriorRead
    | StudyEnded
    | StudyInterrupted
    | NodeExcluded
    | ControlGiven
)
