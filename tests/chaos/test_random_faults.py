"""Studies that random faults strike, by seeds. `make chaos-random SEEDS=1-200` runs many, and goes on where it was."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.fault_actions import FAULTS
from chaos.fault_results import SeedResult, choose_seeds, keep_result, read_results, summarise
from chaos.fault_run import StudyUnderFaults, write_study
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
from chaos.invariants import Invariants, assert_clean_output
from chaos.study_process import CommandProcess
from mlflow_server import Server

from model.corpora.corpus import Corpus
from study.runner import Work

SEEDS, ACTIONS = "CHAOS_SEEDS", "CHAOS_ACTIONS"  # environment variables that `make chaos-random` sets
DISK_SIZE = {False: "48m", True: "128m"}  # of the stand-in's study, and of one with real checkpoints
KINDS = [(kind, needs, weight) for kind, (_, needs, weight) in FAULTS.items()]

RunScenario = Callable[[Scenario, str], None]


def _list_seeds() -> list[int]:
    """Two where none are named; of those that are, the ones that have not passed with this code."""
    named = os.environ.get(SEEDS)
    return choose_seeds(parse_seeds(named)) if named and not os.environ.get(ACTIONS) else parse_seeds(named or "1-2")


@pytest.fixture
def run_scenario(stub: Work, corpus: Corpus, tmp_path: Path, request: pytest.FixtureRequest) -> RunScenario:
    """Run a scenario in a new folder of this name, to the study's end and all checks."""

    def run(scenario: Scenario, name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(folder))
            disk = stack.enter_context(small_disk(folder / "disk", DISK_SIZE[scenario.is_real]))
            server = stack.enter_context(_start_tracking(scenario, request))
            tracking = server.url if server else None
            study_folder = write_study(scenario, str(corpus.folder), disk, tracking, _miniature())
            study = StudyUnderFaults(scenario, study_folder, disk, server, Invariants(study_folder))
            study.run({kind: action for kind, (action, _, _) in FAULTS.items()})
            print(f"{name}: struck by {' '.join(map(str, study.taken)) or 'nothing'} in {len(study.drivers)} processes")
            _send_runs()
            study.invariants.check_end(scenario.trials + 1)

    return run


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


def _send_runs() -> None:
    """What a session could not send, as its last line says."""
    command = CommandProcess([sys.executable, "-m", "study", "track", "study.yaml"])
    assert command.wait_for_end() == 0, command.output
    assert_clean_output(command.output)


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
    start = time.monotonic()
    error = _find_error(run_scenario, scenario, "whole")
    if error is not None and not actions:
        scenario, error = shrink(lambda shorter, name: _find_error(run_scenario, shorter, name), scenario, error)
    faults = " ".join(map(str, scenario.faults))
    if not actions:
        keep_result(SeedResult(seed, error is None, faults, round(time.monotonic() - start, 1), error or ""))
        print("\n".join(summarise(read_results())))
    assert error is None, f"make chaos-random SEEDS={seed} ACTIONS='{faults}'\n{scenario}\n{error}"


def _find_error(run_scenario: RunScenario, scenario: Scenario, name: str) -> str | None:
    try:
        run_scenario(scenario, name)
    except Exception as error:  # whatever it is, the seed has failed and is shrunk
        return f"{type(error).__name__}: {error}"
    return None
