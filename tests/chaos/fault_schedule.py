"""Which faults strike which study, drawn from a seed: the same seed always gives the same study and the same list."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import stub_training

from study.config.budget import SECONDS_PER_HOUR

RULES = ("asha", "asha-promote", "median", "evidence", "none")
FILE, SERVER, POSTGRESQL = "file", "server", "postgresql"  # where MLflow's runs are
REAL_EVERY = 10  # of so many seeds one trains the recipe `tiny`, the others the stand-in
CPUS = 2  # of the machine that the trials share
# CPU-seconds of a budget for each trial: with the smaller ones there is no room for all.
BUDGETS = (6.0, 12.0, 25.0, 60.0)
BUDGET_EVERY = 4
# A budget is measured by the clock, so that one that is moved by a day uses it up.
NEEDS_NO_BUDGET = {"move_clock"}
ASKS_EVERY = 4  # of so many studies one compares two classes, and confirms the best of each with new seeds
FIRST = 5  # trials that `evidence` never stops, the fewest that it allows
MORE_TRIALS = 5  # of a study under `evidence`, so that there are some that it may stop
# What the stand-in does in a trial, by the share of trials that draw it.
BEHAVIOURS = [stub_training.SUCCEEDS, stub_training.VARIES, stub_training.DIES_ONCE, stub_training.NAN_OBJECTIVE]
_FAULT = re.compile(r"([a-z_]+)@(\d+)(?:\+([\d.]+))?")


@dataclass(frozen=True, order=True)
class Fault:
    """Strikes once so many epochs were reported in all, and so many seconds later; written `kill_driver@12+0.25`."""

    epochs: int
    delay: float
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}@{self.epochs}+{self.delay:g}"


@dataclass(frozen=True)
class Scenario:
    """A study and the faults that strike it, in their order."""

    seed: int
    rule: str
    workers: int
    concurrent_trials: int
    trials: int
    epochs: int
    tracking: str
    is_real: bool
    faults: tuple[Fault, ...]
    budget: float | None = None  # CPU-seconds
    asks: bool = False  # whether it compares the classes

    def with_faults(self, faults: Sequence[Fault]) -> Scenario:
        return replace(self, faults=tuple(faults))

    def make_study(self, corpus: str, storage: str, tracking: str | None, miniature: dict[str, Any]) -> dict[str, Any]:
        """The content of the study file; `miniature` are the values of a recipe that trains in seconds."""
        # Nothing can be shown of trials that all have the same figures.
        behaviour = stub_training.VARIES if self.rule == "evidence" else stub_training.SUCCEEDS
        values = {"training.epochs": self.epochs} | (miniature if self.is_real else {"training.seed": behaviour})
        search: dict[str, Any] = {"ctc_weight": {"uniform": [0.1, 0.6]}, "seed": self.seed}
        more: dict[str, Any] = {}
        if not self.is_real and self.rule != "evidence":
            search["recipe"] = {"training.seed": {"choice": BEHAVIOURS}}
        if self.asks:
            search["auxiliary"] = {"count": [0, 1], "layers": [1, 2, 3], "final_weight": [0.3, 0.9]}
            more["confirmation"] = {"finalists": 1, "seeds": 2}
        stopping: dict[str, Any] = {"rule": self.rule}
        if self.rule in ("asha", "asha-promote", "median"):
            stopping["grace_epochs"] = 1
        if self.rule in ("asha", "asha-promote"):
            stopping["reduction"] = 2
        if self.rule == "evidence":
            stopping["complete_first"] = FIRST
        if self.budget is not None:
            more["budget"] = {"cpu_hours": self.budget / SECONDS_PER_HOUR}
        return more | {
            "name": "probe",
            "corpus": corpus,
            "storage": storage,
            "tracking": tracking,
            "recipe": {"base": "tiny", "set": values},
            "search": search,
            "trials": self.trials,
            "baselines": ["ed"],
            "early_stopping": stopping,
            "failures": {"same_error_stops": 100},
            "workers": {
                "count": self.workers,
                "cpus": (1.0 if self.concurrent_trials <= CPUS else 0.6) / self.workers,
                "concurrent_trials": self.concurrent_trials,
            },
        }


def draw_scenario(seed: int, kinds: Sequence[tuple[str, str | None, float]]) -> Scenario:
    """The scenario of a seed. `kinds`: the name of each fault, the tracking that it needs, and its weight."""
    chance = random.Random(seed)
    is_real = seed % REAL_EVERY == 0
    tracking = chance.choices((FILE, SERVER, POSTGRESQL), (6, 3, 1))[0]
    trials, epochs = (2, 3) if is_real else (chance.randint(3, 6), chance.randint(4, 8))
    rule = chance.choice(RULES)
    if rule == "evidence" and not is_real:
        trials += MORE_TRIALS
    scenario = Scenario(
        seed,
        rule,
        chance.choice((1, 1, 2)),
        chance.choice((1, 2, 2, 3)),
        trials,
        epochs,
        tracking,
        is_real,
        (),
        (trials + 1) * chance.choice(BUDGETS) if chance.randrange(BUDGET_EVERY) == 0 else None,
        not is_real and chance.randrange(ASKS_EVERY) == 0,
    )
    possible = [(kind, weight) for kind, needs, weight in kinds if _fits(kind, needs, scenario)]
    most = trials * epochs // 2  # of the epochs, of which early stopping leaves about half
    faults = [
        Fault(chance.randint(0, most), round(chance.uniform(0.0, 1.0), 2), kind)
        for kind in chance.choices(*zip(*possible, strict=True), k=chance.randint(2, 5))
    ]
    return scenario.with_faults(sorted(faults))


def parse_faults(text: str) -> list[Fault]:
    """The faults of a list such as `kill_driver@12+0.25 fill_disk@20`; a ValueError at what is none."""
    faults = []
    for part in text.replace(",", " ").split():
        match = _FAULT.fullmatch(part)
        if match is None:
            raise ValueError(f"'{part}' is no fault; write KIND@EPOCHS or KIND@EPOCHS+SECONDS")
        faults.append(Fault(int(match[2]), float(match[3] or 0), match[1]))
    return sorted(faults)


def parse_seeds(text: str) -> list[int]:
    """The seeds of a list such as `1-20,35`."""
    seeds: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def shrink(find_error: Callable[[Scenario, str], str | None], scenario: Scenario, error: str) -> tuple[Scenario, str]:
    """The shortest scenario found that fails as well, with its error, by leaving out one fault after the other.

    `find_error` runs a scenario under a name, which is new each time, and returns what failed, or None.
    """
    for index, fault in enumerate(scenario.faults):
        shorter = scenario.with_faults([other for other in scenario.faults if other is not fault])
        again = find_error(shorter, f"shorter-{index}")
        if again is not None:
            scenario, error = shorter, again
    return scenario, error


def _fits(kind: str, needs: str | None, scenario: Scenario) -> bool:
    """Whether a kind of fault can strike the study; a database behind a server is a server too."""
    has_tracking = needs in (None, scenario.tracking) or (needs == SERVER and scenario.tracking == POSTGRESQL)
    return has_tracking and (scenario.budget is None or kind not in NEEDS_NO_BUDGET)
