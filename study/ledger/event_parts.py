"""What events are made of: their base, a trial's state, and figures; one that is not finite is null in a file."""

from __future__ import annotations

import math
import time
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Part(BaseModel):
    """A frozen part of an event."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Event(Part):
    """Something that happened to a study. `time` is when it was written, in Unix seconds."""

    time: float = Field(default_factory=lambda: round(time.time(), 3))


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
