"""Studies that random faults strike, by seeds. `make chaos-random SEEDS=1-200` runs many, and goes on where it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.fault_actions import FAULTS, TRACKING
from chaos.fault_results import SEEDS, SeedResult, Tally, choose_seeds, claim_seed, keep_result
from chaos.fault_run import StudyUnderFaults, run_here, write_study
from chaos.fault_schedule import (
    FILE,
    POSTGRESQL,
    Scenario,
    draw_scenario,
    parse_faults,
    parse_seeds,
    shrink,
)
from chaos.faults import small_disk
from chaos.invariants import Invariants
from mlflow_server import Server

from model.corpora.corpus import Corpus
from study.ledger import fold_cache
from study.runner import Work

ACTIONS = "CHAOS_ACTIONS"  # an environment variable that `make chaos-random` sets, as it sets SEEDS
DISK_SIZE = {False: "48m", True: "128m"}  # of the stand-in's study, and of one with real checkpoints
KINDS = [(kind, needs, weight) for kind, (_, needs, weight) in FAULTS.items()]

RunScenario = Callable[[Scenario, str], Tally]


def _list_seeds() -> list[int]:
    """Two where none are named; of those that are, the ones that have not passed with this code."""
    named = os.environ.get(SEEDS)
    return choose_seeds(parse_seeds(named)) if named and not os.environ.get(ACTIONS) else parse_seeds(named or "1-2")


@pytest.fixture
def run_scenario(
    stub: Work, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> RunScenario:
    """Run a scenario in a new folder of this name, to the study's end and all checks.

    A ScenarioError holds what failed and what was done until then; what the study had written is in the folder `kept`.
    """
    monkeypatch.setattr(fold_cache, "LEAST_BYTES", 1)  # as the driver does

    def run(scenario: Scenario, name: str) -> Tally:
        folder = tmp_path / name
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(folder))
            disk = stack.enter_context(small_disk(folder / "disk", DISK_SIZE[scenario.is_real]))
            server = stack.enter_context(_start_tracking(scenario, request))
            tracking = server.url if server else None
            study_folder = write_study(scenario, str(corpus.folder), disk, tracking, _miniature())
            study = StudyUnderFaults(scenario, study_folder, disk, server, Invariants(study_folder))
            try:
                study.run({kind: action for kind, (action, _, _) in FAULTS.items()})
                was_hit = not TRACKING.isdisjoint(fault.kind for fault in scenario.faults)
                study.invariants.check_tracking(study.driver.output, was_hit)
                assert run_here("track", "study.yaml", "--flush") is not None, "what no session sent cannot be sent"
                study.invariants.check_end(scenario.trials, run_here("status", "study.yaml", "--json", "--all"))
            except Exception as error:  # whatever it is, the seed has failed and is shrunk
                _keep_files(study_folder)
                raise ScenarioError(f"{type(error).__name__}: {error}", _count(study)) from error
            finally:
                print(f"{name}: {study.describe()}")
            return _count(study)

    return run


class ScenarioError(Exception):
    """A scenario that failed, and what was done until then."""

    def __init__(self, message: str, tally: Tally) -> None:
        super().__init__(message)
        self.tally = tally


def _keep_files(study_folder: Path) -> None:
    """Copy the events and orders from the disk, which is gone after the test."""
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(study_folder, Path("kept"), ignore=shutil.ignore_patterns("train", "*.pt"))


def _count(study: StudyUnderFaults) -> Tally:
    checked = study.invariants
    return Tally(
        struck=tuple(fault.kind for fault in study.taken),
        missed=tuple(fault.kind for fault in study.missed),
        pruned=(study.scenario.rule,) * checked.count_pruned(),
        sessions=checked.sessions,
        processes=len(study.drivers),
        orders=checked.orders.given,
        answered=checked.orders.answered.total(),
        ended=checked.count_ended(),
        lost=checked.count_lost(),
    )


@contextlib.contextmanager
def _start_tracking(scenario: Scenario, request: pytest.FixtureRequest) -> Iterator[Server | None]:
    if scenario.tracking == FILE:
        yield None
        return
    folder = Path("server").resolve()
    folder.mkdir()
    is_postgresql = scenario.tracking == POSTGRESQL
    database = request.getfixturevalue("new_database")() if is_postgresql else f"sqlite:///{folder}/runs.db"
    server = Server(database, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _miniature() -> dict[str, Any]:
    return {"decoding_search.share": 0.0, "data.batch_seconds": 12.0, "tokenizer.vocabulary": 40}


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", _list_seeds())
def test_faults_that_a_seed_draws_lose_nothing_and_the_study_comes_to_its_end(
    seed: int, run_scenario: RunScenario
) -> None:
    scenario = draw_scenario(seed, KINDS)
    if actions := os.environ.get(ACTIONS):
        scenario = scenario.with_faults(parse_faults(actions))
    print(scenario)
    # `make chaos` runs its two seeds again, whoever has run them.
    with claim_seed(seed) if os.environ.get(SEEDS) and not actions else contextlib.nullcontext(True) as is_ours:
        if not is_ours:
            pytest.skip(f"another process runs seed {seed}, or has run it")
        start, tallies = time.monotonic(), []

        def find_error(shorter: Scenario, name: str) -> str | None:
            try:
                tallies.append(run_scenario(shorter, name))
            except ScenarioError as error:
                tallies.append(error.tally)
                return str(error)
            return None

        error = find_error(scenario, "whole")
        if error is not None and not actions:
            scenario, error = shrink(find_error, scenario, error)
        if not actions:
            faults = " ".join(map(str, scenario.faults))
            seconds = round(time.monotonic() - start, 1)
            keep_result(SeedResult(seed, error is None, faults, seconds, error or "", sum(tallies, Tally())))
    faults = " ".join(map(str, scenario.faults))
    assert error is None, f"make chaos-random SEEDS={seed} ACTIONS='{faults}'\n{scenario}\n{error}"
