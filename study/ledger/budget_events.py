"""The events of a study's budget: what ends because of it, and work on trials after their end, which counts too."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from study.ledger.event_parts import Event, Part

StudyPart = Literal["search", "confirmation"]
SEARCH: StudyPart = "search"
CONFIRMATION: StudyPart = "confirmation"


class SessionWorkers(Part):
    """The workers of each trial in a session, and the resources of each of them."""

    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


class BudgetReached(Event):
    """The budget has no room for one more trial of a `part` of the study: search or confirmation.

    It holds as long as the study file has the same `budget`; with another one that part continues.
    """

    kind: Literal["budget_reached"] = "budget_reached"
    part: StudyPart
    budget: dict[str, Any] = Field(default_factory=dict)
    reason: str


class TestsStarted(Event):
    """The workers of a trial that has ended score its test sets; a `TrialDecoded` ends that, or the session's end."""

    # Not a class of tests, though pytest takes its name for one.
    __test__ = False

    kind: Literal["tests_started"] = "tests_started"
    number: int
