"""Views are a function of the trials: the columns that these have figures and values for, sorted by the objective."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from simulated_studies import SimulatedStudy

from study.config.study_file import Objective
from study.ledger.events import AnyEvent, SessionStarted, TrialEnded, TrialEpoch, TrialStarted, TrialState
from study.ledger.trials import Trials
from study.tracking.views import TAG, build_views, list_views, runs_page

MAX_TAG = 20_000  # characters of an experiment's tag in MLflow


def unpack(tag: str) -> dict[str, Any]:
    """The state in a view's tag."""
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def state_of(trials: Trials, key: str, objective: Objective | None = None) -> dict[str, Any]:
    return unpack(build_views(trials, objective or Objective())[f"{TAG}{key}"])


def make_trials(values: dict[str, Any], ended: bool) -> Trials:
    """One trial after an epoch, or after its end."""
    metrics = {"dev/wer": 30.0, "dev/ilm_perplexity": 5.0, "dev/out_of_domain/wer": 40.0}
    events: list[AnyEvent] = [
        SessionStarted(time=1.0),
        TrialStarted(time=2.0, number=0, values=values),
        TrialEpoch(time=3.0, number=0, epoch=1, metrics=metrics),
    ]
    final = metrics | {"dev/wer_final": 28.0, "test/a/wer": 33.0}
    return Trials([*events, *([TrialEnded(time=4.0, number=0, state=TrialState.COMPLETE, metrics=final)] * ended)])


def test_columns_are_those_that_trials_have_figures_and_values_for() -> None:
    running = state_of(make_trials({"ctc_weight": 0.3}, ended=False), "all-trials")
    assert running["selectedColumns"] == [
        "tags.`trial.state`",
        "metrics.`dev/wer`",
        "params.`class`",
        "params.`ctc_weight`",
    ]
    ended = state_of(make_trials({"ctc_weight": 0.3}, ended=True), "all-trials")
    assert ended["selectedColumns"] == [
        "tags.`trial.state`",
        "metrics.`dev/wer_final`",
        "metrics.`chosen/dev/wer`",
        "metrics.`chosen/dev/ilm_perplexity`",
        "metrics.`chosen/dev/out_of_domain/wer`",
        "metrics.`dev/wer`",
        "params.`class`",
        "params.`ctc_weight`",
    ]
    assert set(ended["columnWidths"]) == set(ended["columnOrder"]) > set(ended["selectedColumns"])


def test_trials_are_sorted_by_what_the_study_ranks_them_by() -> None:
    trials = make_trials({"ctc_weight": 0.3}, ended=True)
    by_validation = Objective(metric="dev/wer", ranking="validation")
    for objective, key in ((Objective(), "dev/wer_final"), (by_validation, "chosen/dev/wer")):
        state = state_of(trials, "all-trials", objective)
        assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{key}`", True)
    assert state_of(make_trials({}, ended=False), "all-trials")["orderByKey"] == "metrics.`dev/wer`"


def test_no_view_hides_trials_below_the_studys_own_run() -> None:
    trials = SimulatedStudy().run()
    for name, tag in build_views(trials, Objective()).items():
        state = unpack(tag)
        # MLflow's page nests runs that are sorted by their start, or neither sorted nor searched.
        assert state["orderByKey"], name
        assert "start_time" not in state["orderByKey"], name


def test_the_verdicts_view_comes_with_the_finalists_and_opens_first() -> None:
    trials = SimulatedStudy().run()
    views = build_views(trials, Objective())
    assert list_views(views) == ["verdict", "all-trials", "domains", "failures"]
    state = unpack(views[f"{TAG}verdict"])
    assert state["selectedColumns"][0] == "attributes.`Description`"
    assert "metrics.`test/test-ood-text/wer`" in state["selectedColumns"]
    assert list_views(build_views(make_trials({}, ended=True), Objective())) == ["all-trials", "domains", "failures"]
    assert list_views(["mlflow.note.content", "other"]) == []


def test_a_seed_that_only_repeats_have_is_no_searched_value() -> None:
    repeated = make_trials({"ctc_weight": 0.3, "training.seed": 1}, ended=True)
    repeated.apply(TrialStarted(time=5.0, number=1, values={"ctc_weight": 0.3}))
    assert "params.`training.seed`" not in state_of(repeated, "all-trials")["selectedColumns"]
    searched = make_trials({"training.seed": 1}, ended=True)
    assert "params.`training.seed`" in state_of(searched, "all-trials")["selectedColumns"]


def test_the_charts_show_each_searched_number_and_all_values_together() -> None:
    values = {"ctc_weight": 0.3, "auxiliary.placement": "2", "auxiliary.weights": "0.4", "final_weight": 0.6}
    state = state_of(make_trials(values, ended=True), "all-trials")
    sections = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    charts = [(sections[chart["metricSectionId"]], chart["type"]) for chart in state["compareRunCharts"]]
    assert charts == [
        ("Trials in their order, and the best so far", "SCATTER"),
        ("Trials in their order, and the best so far", "LINE"),
        ("Internal language model", "SCATTER"),
        ("Placement and weight of classifiers", "SCATTER"),
        ("Placement and weight of classifiers", "CONTOUR"),
        ("Searched values", "SCATTER"),
        ("Searched values", "SCATTER"),
        ("All values", "PARALLEL"),
        ("Learning curves", "LINE"),
    ]


def test_views_are_the_same_for_the_same_trials_and_fit_into_a_tag() -> None:
    values = {f"optimiser.some_quantity_with_a_long_name_{number}": 0.1 for number in range(60)}
    one, other = (build_views(make_trials(values, ended=True), Objective()) for _ in range(2))
    assert one == other
    assert all(len(tag) < MAX_TAG / 2 for tag in one.values())


def test_the_page_of_a_view_is_that_of_trainings_and_not_of_language_model_applications() -> None:
    plain = runs_page("http://127.0.0.1:5000/", "3")
    assert plain.startswith("http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&orderByKey=tags.")
    charts = runs_page("https://mlflow.example/base", "3", "verdict", charts=True)
    assert charts.startswith("https://mlflow.example/base/#/experiments/3/runs?workflowType=machine_learning&")
    assert charts.endswith("viewStateShareKey=verdict&compareRunsMode=CHART")
