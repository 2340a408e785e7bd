"""A study with a trial in each final state, as the ledger and MLflow have them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from rich.console import Console

from model.recipe.files import read_recipe
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def read_output(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_final_states_are_the_same_in_ledger_and_mlflow_and_a_finished_study_is_only_extended(
    ray_here: None, stub: Work, study_in: Callable[..., Path], console: Console
) -> None:
    seeds = {"training.seed": {"choice": [2, 3, 4]}}
    path = study_in(
        search={"sampler": "grid", "recipe": seeds},
        trials=2,
        workers={"count": 1, "cpus": 1, "concurrent_trials": 1},  # asha compares a trial with earlier ones
    )
    folder = Path("studies/probe")
    assert run_study(path, console=console, work=stub) == 0
    assert len(Ledger.open(folder).trials) == 3
    before = [file.read_bytes() for file in Ledger.open(folder).log.files()]
    assert run_study(path, console=console, work=stub) == 0
    assert [file.read_bytes() for file in Ledger.open(folder).log.files()] == before, "a finished study was run again"
    assert run_study(path, trials=3, console=console, work=stub) == 0, "a finished study was not extended"
    ledger = Ledger.open(folder)
    trials = ledger.trials

    assert list(trials) == [0, 1, 2, 3]
    assert trials[0].baseline == "ed"
    ends = {
        record.values["training.seed"]: (record.state, record.reason) for record in trials.values() if record.number
    }
    assert trials[0].state is TrialState.COMPLETE
    assert ends[2] == (TrialState.FAILED, "dev/wer is nan at epoch 1")
    assert ends[3][0] is TrialState.PRUNED
    assert ends[4] == (TrialState.FAILED, "NonFiniteLossError: loss is nan at step 7")
    assert [report.epoch for report in trials[0].epochs] == [1, 2, 3, 4]
    assert trials[0].metrics["out_of_domain/wer"] == 22.0

    runs = _find_nested_runs(ledger)
    assert {int(run.data.tags["trial.number"]): run.info.status for run in runs} == {
        number: _MLFLOW[record.state] for number, record in trials.items()
    }
    complete = next(run for run in runs if run.data.tags["trial.number"] == "0")
    assert complete.data.metrics["dev/wer"] == 10.0
    assert complete.data.metrics["dev/ilm_perplexity"] == 9.0

    exported = read_recipe(folder / "best-recipe.yaml")
    assert exported.hash == trials[0].recipe_hash
    assert "decred-study train studies/probe/best-recipe.yaml" in read_output(console)
    failed = next(record.number for record in trials.values() if record.values.get("training.seed") == 4)
    assert "loss is nan at step 7" in (ledger.trial_folder(failed) / "error-0.txt").read_text()


_MLFLOW = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}


def _find_nested_runs(ledger: Ledger) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{ledger.folder.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("probe")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if "mlflow.parentRunId" in run.data.tags]
