"""A study of WER and real-time factor, from its file to the trial on its Pareto front that is exported."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import stub_training
import timed_training
from rich.console import Console
from typer.testing import CliRunner

from model.recipe.files import read_recipe
from study.cli.main import app
from study.ledger.ledger import Ledger
from study.runner import Work, run_study

WEIGHTS = [0.1, 0.2, 0.4, 0.6]  # WERs rise with them, and factors fall
LIMIT = 0.085


@pytest.mark.slow
def test_a_study_of_two_objectives_shows_its_front_everywhere_and_exports_a_trial_of_it(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    path = study_in(
        recipe={"base": "tiny", "set": {"training.epochs": 2, "training.seed": stub_training.VARIES}},
        search={"ctc_weight": {"choice": WEIGHTS}, "sampler": "grid"},
        question="none",
        trials=len(WEIGHTS),
        baselines=["ed", "decred-paper"],
        objective={"second": "dev/rtf", "limits": {"dev/rtf": LIMIT}},
        early_stopping={"rule": "none"},
    )
    console = Console(file=io.StringIO(), width=200)
    assert run_study(path, console=console, work=Work("timed_training:train", stub.prepare)) == 0
    printed = console.file.getvalue()  # type: ignore[attr-defined]

    ledger = Ledger.open(Path("studies/probe"))
    recipes = {number: ledger.read_recipe(record) for number, record in ledger.trials.items()}
    factors = {number: timed_training.find_factor(recipe) for number, recipe in recipes.items()}
    assert {number: record.metrics["dev/rtf"] for number, record in ledger.trials.items()} == factors
    fast = {number: recipe.loss.ctc_weight for number, recipe in recipes.items() if factors[number] <= LIMIT}
    expected = sorted(fast.keys() - {1}, key=lambda number: fast[number])
    assert len(expected) == 4, "trial 1 is dominated by that of weight 0.2, and weight 0.1 is above the limit"

    lines = [f"  {number:04d}  dev/wer_final {25 * fast[number]:.2f}  dev/rtf_final" for number in expected]
    head = "Pareto front of dev/wer_final and dev/rtf_final: 4 of 5 complete trials, which no other one dominates"
    status = CliRunner().invoke(app, ["status", str(path)], catch_exceptions=False).output
    for text in (printed, status):
        assert f"above a limit of the objective (dev/rtf {LIMIT:g}), and so never best: " in text
        places = [text.index(line) for line in (head, *lines)]
        assert places == sorted(places)
    answer = CliRunner().invoke(app, ["status", str(path), "--json"], catch_exceptions=False).output
    front = json.loads(answer)["study"]["front"]
    assert front["metrics"] == ["dev/wer_final", "dev/rtf_final"]
    assert [one["number"] for one in front["trials"]] == expected
    assert front["trials"][-1]["figures"] == pytest.approx(
        [25 * fast[expected[-1]], timed_training.BEAM * factors[expected[-1]]]
    )

    page = Path("studies/probe/report.html").read_text()
    assert "<h2>Both objectives</h2>" in page
    fastest = min(expected, key=lambda number: factors[number])
    options = ["export", str(path), "--trial", str(fastest), "-o", "fastest.yaml"]
    assert CliRunner().invoke(app, options, catch_exceptions=False).exit_code == 0
    assert read_recipe(Path("fastest.yaml")).hash == recipes[fastest].hash

    client = mlflow.MlflowClient(f"sqlite:///{ledger.folder.resolve()}/mlflow.db")
    experiment = client.get_experiment_by_name("probe")
    assert experiment is not None
    runs = {run.data.tags.get("trial.number"): run for run in client.search_runs([experiment.experiment_id])}
    metrics = runs[str(fastest)].data.metrics
    assert (metrics["dev/rtf"], metrics["chosen/dev/rtf"]) == (factors[fastest], factors[fastest])
    assert metrics["dev/rtf_final"] == timed_training.BEAM * factors[fastest]
