"""The `budget` section of a study file: what a study may use in all its sessions, beside its number of trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import Field, model_validator

from model.strict import Strict

SECONDS_PER_HOUR = 3600.0
NAMES = {"hours": "hours", "gpu_hours": "GPU-hours", "cpu_hours": "CPU-hours", "cost": "cost"}


class Workers(Protocol):
    """The workers of a trial, and the resources of each of them."""

    @property
    def count(self) -> int: ...
    @property
    def cpus(self) -> float: ...
    @property
    def gpus(self) -> float: ...


class Prices(Strict):
    """What an hour costs, in any currency."""

    gpu_hour: float = Field(0.0, ge=0, description="of one GPU")
    cpu_hour: float = Field(0.0, ge=0, description="of one CPU")


class BudgetSettings(Strict):
    """The most that a study uses; of several limits, the one that is reached first counts.

    GPU-hours and CPU-hours are those of the trials' workers, from the start of a trial to its end; hours are those in
    which sessions run, but for pauses in which no trial does.
    """

    hours: float | None = Field(
        None, gt=0, description="in which sessions of the study run, but for pauses in which no trial does"
    )
    gpu_hours: float | None = Field(None, gt=0, description="GPU-hours of all workers of all trials")
    cpu_hours: float | None = Field(None, gt=0, description="CPU-hours of all workers of all trials")
    cost: float | None = Field(None, gt=0, description="the price of these GPU-hours and CPU-hours, see prices")
    prices: Prices | None = Field(None, description="what an hour costs; needed with cost")

    @model_validator(mode="after")
    def _check_consistency(self) -> BudgetSettings:
        if not self.limits:
            raise ValueError("budget names no limit; give hours, gpu_hours, cpu_hours or cost, or leave budget out")
        if self.cost is not None and self.prices is None:
            raise ValueError(f"cost is {self.cost:g}, but prices are missing; write for example {{gpu_hour: 2.5}}")
        if self.prices is not None and self.cost is None:
            raise ValueError("prices are given, but no cost; give the most that the study may cost, or remove prices")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by their names."""
        named = {name: getattr(self, name) for name in NAMES}
        return {name: float(limit) for name, limit in named.items() if limit is not None}

    def find_rate(self, name: str, workers: Workers) -> float:
        """What a second adds to a limit: to `hours` that of a session, to the others that of a trial's workers."""
        gpus, cpus = workers.count * workers.gpus, workers.count * workers.cpus
        prices = self.prices or Prices()
        hourly = {
            "hours": 1.0,
            "gpu_hours": gpus,
            "cpu_hours": cpus,
            "cost": gpus * prices.gpu_hour + cpus * prices.cpu_hour,
        }
        return hourly[name] / SECONDS_PER_HOUR


def check_budget(budget: BudgetSettings | None, workers: Workers) -> None:
    """A ValueError where trials with these workers would never use a part of what a limit counts."""
    for name in () if budget is None else budget.limits.keys() - {"hours"}:
        if budget is not None and budget.find_rate(name, workers) == 0:
            lacking = "trials have no GPUs (workers.gpus is 0)" if workers.gpus == 0 else "what they use has no price"
            raise ValueError(
                f"budget.{name} is {getattr(budget, name):g}, but {lacking}, so it would never be reached; give hours, "
                "cpu_hours, or a price for what trials use"
            )


def dump_budget(budget: BudgetSettings | None) -> dict[str, Any]:
    """The budget as events keep it; empty where there is none."""
    return {} if budget is None else budget.model_dump(mode="json", exclude_none=True)


def describe_use(used: Mapping[str, float], budget: BudgetSettings) -> str:
    """What was used of each limit, on one line."""
    return ", ".join(f"{NAMES[name]} {used[name]:.3g} of {limit:g}" for name, limit in budget.limits.items())
