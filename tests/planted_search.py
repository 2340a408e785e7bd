"""A search on a planted surface: the study's own proposer over trials that exist in memory alone."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import Any

from ledger_events import start_event
from planted_surfaces import BASE, BEST, SEARCH, Surface, locate

from study.config.study_file import StudyFile
from study.ledger.events import TrialEnded, TrialEpoch, TrialState
from study.ledger.trials import Trials
from study.search.proposal import Proposal
from study.search.proposer import Proposer

METRIC = "dev/wer"


@dataclass
class PlantedSearch:
    """What a search did on a surface."""

    trials: Trials = field(default_factory=Trials)
    true: dict[int, float] = field(default_factory=dict)  # WER without noise; NaN beyond a cliff
    seconds: list[float] = field(default_factory=list)  # CPU time of each proposal

    @property
    def chosen(self) -> int:
        """The trial with the lowest WER that was observed, as a study chooses it."""
        complete = [number for number in self.trials if self.trials[number].state is TrialState.COMPLETE]
        return min(complete, key=lambda number: self.trials[number].metrics[METRIC])

    @property
    def regret(self) -> float:
        """How far the chosen trial is above the optimum in truth; infinite where no trial could be trained."""
        return self.true[self.chosen] - BEST if any(map(math.isfinite, self.true.values())) else math.inf


def search_planted(
    surface: Surface,
    seed: int,
    trials: int = 40,
    noise: float = 0.3,
    concurrent: int = 1,
    question: str | None = None,
    **search: Any,
) -> PlantedSearch:
    """The trials of one study on the surface; those of equal number have the same noise under every sampler."""
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": (), "search": SEARCH | search}
    content |= {"question": question}
    study = StudyFile.model_validate(content | {"search": content["search"] | {"seed": seed}})
    proposer, done = Proposer(study, BASE), PlantedSearch()
    running: list[Proposal] = []
    while True:
        began = time.process_time()
        proposal = proposer.propose(done.trials)
        done.seconds.append(time.process_time() - began)
        if proposal is None:
            break
        assert isinstance(proposal, Proposal)
        done.trials.apply(start_event(proposal))
        running.append(proposal)
        if len(running) == concurrent:
            _end(done, surface, running.pop(0), noise, seed)
    for left in running:
        _end(done, surface, left, noise, seed)
    return done


def _end(done: PlantedSearch, surface: Surface, proposal: Proposal, noise: float, seed: int) -> None:
    number = proposal.number
    value = done.true[number] = surface(locate(proposal.recipe))
    if math.isfinite(value):
        value += noise * random.Random(f"{seed} {number}").gauss(0.0, 1.0)
        done.trials.apply(TrialEpoch(number=number, epoch=1, metrics={METRIC: value}))
        done.trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={METRIC: value}))
    else:
        done.trials.apply(
            TrialEnded(number=number, state=TrialState.FAILED, reason="NonFiniteLossError: the loss is nan")
        )
