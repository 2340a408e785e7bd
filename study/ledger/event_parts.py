"""What events are made of: a trial's state, and figures, of which one that is not finite is null in a file."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator


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
