"""What a study leaves free on the disk that holds it, and whose weights it keeps there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from model.strict import Strict

GIB = 2**30  # bytes


class DiskSettings(Strict):
    """How a study uses the disk of its folder. What is in an object store is kept alike, and takes no room here."""

    reserve_gib: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="GiB of free space below which no new trial starts; those that run go on. null = a twentieth of "
        "the disk, and 2 GiB at most",
    )
    wait_seconds: float = Field(
        600.0,
        gt=0,
        description="how long a study in which no trial runs waits for free space before it stops; it can be continued",
    )
    keep_best: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="the best trials of each class whose weights are kept when others end, beside those of baselines, "
        "finalists and their new trainings, trials on the Pareto front of two objectives, trials that enqueued recipes "
        "start from, and of all trials that may continue; null = the weights of all trials. Figures, hypotheses and "
        "recipes are kept of every trial",
    )
