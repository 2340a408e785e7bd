"""The events of a study, one class a kind: the only place that knows how they are written in and read from a line.

An event file holds one JSON object a line, with `time` (Unix seconds) and `kind`. A value that is not finite is written
as null and read as NaN. A field that a newer version added is ignored; a kind that it added is refused by its name,
because what it changes is not known here. Lines of format 1 (`events.jsonl`, before version 0.2) are read as well.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError


class TrialState(StrEnum):
    """Where a trial stands. Only complete and pruned trials carry usable values."""

    WAITING = "waiting"  # paused at a rung; continues if it is promoted
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    INFEASIBLE = "infeasible"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Nothing more will happen to the trial."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE)


def _nan_for_null(value: Any) -> Any:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_nan_for_null)]
Metrics = dict[str, Number]
Values = dict[str, bool | int | float | str]


class Part(BaseModel):
    """A frozen part of an event."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Seconds(Part):
    """Where the time of an epoch went; null where it was not measured."""

    training: float | None = None
    validation: float | None = None
    decoding: float | None = None
    waiting: float | None = None  # from a report to the driver's answer


class EpochReport(Part):
    """What a trial reported after an epoch; `step` counts optimiser steps since the start of training."""

    time: float = 0.0  # Unix seconds
    epoch: int
    step: int | None = None
    metrics: Metrics = {}
    seconds: Seconds = Seconds()
    node: str | None = None  # the host of worker 0
    device: str | None = None  # of worker 0: cpu, or the GPU's name


class Event(Part):
    """Something that happened to a study. `time` is when it was written, in Unix seconds."""

    time: float = Field(default_factory=lambda: round(time.time(), 3))


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
    changed: dict[str, list[Any]] = {}  # what differs from the manifest: name -> [was, is]
    sealed: dict[str, int] = {}


class TrialStarted(Event):
    """A trial runs, for the first time or again. `values` are for people, `point` is what the sampler drew."""

    kind: Literal["trial_started"] = "trial_started"
    number: int
    recipe_hash: str = ""
    decoding: dict[str, Any] | None = None  # how its model is decoded in the end
    decoding_hash: str = ""
    training_of: int | None = None  # the trial whose training it shares: they differ in decoding alone
    values: Values = {}
    point: Values | None = None
    baseline: str | None = None
    epochs: int | None = None  # that its recipe asks for


class TrialEpoch(EpochReport):
    """A trial reported an epoch. One that comes again replaces its first report and what followed it."""

    kind: Literal["trial_epoch"] = "trial_epoch"
    time: float = Field(default_factory=lambda: round(time.time(), 3))
    number: int


class TrialPaused(Event):
    """A trial waits at a rung, its checkpoint kept; it may be promoted and continue."""

    kind: Literal["trial_paused"] = "trial_paused"
    number: int
    epoch: int
    step: int | None = None
    reason: str | None = None


class TrialRetried(Event):
    """A trial lost its workers for the `count`-th time and continues from its checkpoint, as `setting` allows."""

    kind: Literal["trial_retried"] = "trial_retried"
    number: int
    reason: str | None = None
    count: int
    setting: str = ""
    lost_seconds: float | None = None  # of training since the last report


class TrialEnded(Event):
    """A trial's end, or its interruption. `metrics` are those of the weights that its training chose.

    An infeasible point has no start, so its end carries `values` and `point`. `count` and `setting` are those that
    decided the end of a trial that failed.
    """

    kind: Literal["trial_ended"] = "trial_ended"
    number: int
    state: TrialState
    reason: str | None = None
    metrics: Metrics = {}
    values: Values | None = None
    point: Values | None = None
    count: int | None = None
    setting: str | None = None
    lost_seconds: float | None = None  # of training since the last report, where it was interrupted


class TrialImported(Event):
    """A trial of another study, whole; `source` is "study/number"."""

    kind: Literal["trial_imported"] = "trial_imported"
    number: int
    source: str
    recipe_hash: str = ""
    decoding: dict[str, Any] | None = None
    decoding_hash: str = ""
    values: Values = {}
    point: Values | None = None
    baseline: str | None = None
    epochs: tuple[EpochReport, ...] = ()
    state: TrialState
    reason: str | None = None
    metrics: Metrics = {}
    is_final: bool = False  # whether `metrics` are the final ones alone
    started: float | None = None
    ended: float | None = None


class TrialDecoded(Event):
    """A trial's model was decoded again after its end: with which decoding, and what it scored."""

    kind: Literal["trial_decoded"] = "trial_decoded"
    number: int
    decoding: dict[str, Any]
    decoding_hash: str
    metrics: Metrics = {}
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
    """A person steered the study: who, what (`command`), of which trial, with which value."""

    kind: Literal["control_given"] = "control_given"
    who: str
    command: str
    number: int | None = None
    value: str | None = None


AnyEvent = (
    SessionStarted
    | TrialStarted
    | TrialEpoch
    | TrialPaused
    | TrialRetried
    | TrialEnded
    | TrialImported
    | TrialDecoded
    | TrialDecodingSearched
    | StudyEnded
    | StudyInterrupted
    | ControlGiven
)
KINDS: dict[str, type[Any]] = {cls.model_fields["kind"].default: cls for cls in get_args(AnyEvent)}
_ADAPTERS = {kind: TypeAdapter(cls) for kind, cls in KINDS.items()}
_FORMAT_1 = {"study_started": "session_started"}  # kinds that had another name


class UnknownKindError(Exception):
    """An event of a kind that this version does not know."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the event's kind is '{kind}'")
        self.kind = kind


def to_line(event: AnyEvent) -> bytes:
    """The event as a line of an event file, line end included; fields without a value are left out."""
    return event.model_dump_json(exclude_none=True, exclude_defaults=False).encode() + b"\n"


def from_line(line: bytes | str) -> AnyEvent:
    """The event in a line. A ValueError where the line is damaged, an UnknownKindError where its kind is not known."""
    content = json.loads(line)
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise ValueError("it holds no event")
    kind = str(_FORMAT_1.get(content["kind"], content["kind"]))
    if kind not in KINDS:
        raise UnknownKindError(kind)
    if "time" not in content:
        raise ValueError("it has no time")
    try:
        event: AnyEvent = _ADAPTERS[kind].validate_python(_of_format_1(content) | {"kind": kind})
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"])) from None
    return event


def _of_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Format 1 wrote null for what has a default now, and the seconds of an epoch among its metrics."""
    kept = {name: value for name, value in content.items() if value is not None}
    metrics = kept.get("metrics")
    if kept["kind"] == "trial_epoch" and "seconds" not in kept and isinstance(metrics, Mapping):
        kept["seconds"] = {"training": metrics.get("train/seconds"), "validation": metrics.get("dev/seconds")}
    return kept
