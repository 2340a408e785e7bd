"""The JSON of a study: its field names, its states and exit codes, and that it is JSON whatever the figures are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from open_session import STUDY, TINY
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.main import app
from study.config.budget import BudgetSettings, dump_budget
from study.config.study_file import Objective
from study.display.rows import Rows
from study.display.status_json import SCHEMA, make_status
from study.display.study_state import EXIT_CODES, StudyState, find_state
from study.ledger.budget_events import BudgetReached
from study.ledger.events import (
    ControlGiven,
    NodeExcluded,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialStarted,
)
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

GOLDEN = Path(__file__).parents[2] / "golden"
STUDY_FIELDS = {
    *("name", "folder", "state", "reason", "running", "question", "objective", "began", "changed", "trials", "best"),
    *("front", "seconds_left", "spent"),
}
TRIAL_FIELDS = {
    *("number", "state", "reason", "name", "class", "confirms", "source", "values", "epoch", "planned_epochs"),
    *("metrics", "started", "ended", "retries", "recipe_hash", "node", "device"),
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A study in its first session: a complete trial, and one that runs."""
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {"id": "abc"})
    ledger.start_session(5, 2)
    ledger.append(TrialStarted(number=0, baseline="ed", recipe_class="ed", values={"ctc_weight": 0.3}, epochs=2))
    ledger.append(TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 30.0, "train/loss": math.nan}, node="a"))
    ledger.append(TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"dev/wer": 30.0, "dev/wer_final": 25.0}))
    ledger.append(TrialStarted(number=1, values={"ctc_weight": 0.2}, epochs=2))
    return ledger


def test_the_fields_are_those_that_are_documented(ledger: Ledger) -> None:
    ledger.append(NodeExcluded(node="b", node_id="1", reason="it is sick"))
    with hold_lease(ledger.folder):
        status = json.loads(json.dumps(make_status(ledger), allow_nan=False))
    assert set(status) == {"schema", "study", "trials", "excluded_nodes"}
    study, first, second = status["study"], *status["trials"]
    assert set(study) == STUDY_FIELDS
    assert (status["schema"], study["name"], study["state"]) == (SCHEMA, "s", "running")
    assert set(study["running"]) == {"host", "process"}
    one = {"metric": "dev/wer", "mode": "min", "ranking": "final", "second": None, "limits": {}}
    assert (study["objective"], study["front"]) == (one, None)
    assert (study["trials"]["complete"], study["trials"]["running"], study["trials"]["failed"]) == (1, 1, 0)
    assert set(study["trials"]) == {str(state) for state in TrialState}
    best = {"number": 0, "metric": "dev/wer_final", "figure": 25.0, "stage": None, "recipe_hash": ""}
    assert study["best"] == best
    assert set(study["spent"]) == {"hours", "gpu_hours", "cpu_hours"}
    assert set(first) == TRIAL_FIELDS
    assert (first["name"], first["class"], first["epoch"], first["planned_epochs"]) == ("ed", "ed", 1, 2)
    assert (first["values"], first["node"]) == ({"ctc_weight": 0.3}, "a")
    assert first["metrics"] == {"dev/wer": 30.0, "train/loss": None, "dev/wer_final": 25.0}
    assert (second["state"], second["ended"], second["metrics"]) == ("running", None, {})
    assert status["excluded_nodes"] == [{"node": "b", "reason": "it is sick", "until": None}]


def test_a_study_of_two_objectives_has_its_pareto_front(tmp_path: Path) -> None:
    study = STUDY.model_copy(update={"objective": Objective(second="dev/rtf")})
    ledger = Ledger.create_or_open(tmp_path / "two", study, TINY, {"id": "abc"})
    for number, (wer, factor) in enumerate([(12.0, 0.5), (11.0, 0.6), (13.0, 0.7), (10.0, math.nan)]):
        ledger.append(TrialStarted(number=number))
        metrics = {"dev/wer": wer, "dev/rtf": factor}
        ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics))
    front = json.loads(json.dumps(make_status(ledger), allow_nan=False))["study"]["front"]
    assert front == {
        "metrics": ["dev/wer", "dev/rtf"],
        "stage": None,
        "trials": [{"number": 1, "figures": [11.0, 0.6]}, {"number": 0, "figures": [12.0, 0.5]}],
        "lacking": [3],
    }


def test_the_time_left_is_that_of_a_study_that_runs(ledger: Ledger) -> None:
    ledger.append(TrialEpoch(number=1, epoch=1))
    assert make_status(ledger)["study"]["seconds_left"] is None
    with hold_lease(ledger.folder):
        assert make_status(ledger)["study"]["seconds_left"] is not None


def test_the_time_left_is_not_known_while_the_driver_of_the_next_session_prepares(ledger: Ledger) -> None:
    ledger.append(TrialEpoch(number=1, epoch=1))
    assert ledger.trials.session is not None
    ledger.trials.session = ledger.trials.session.model_copy(update={"process": 1})  # which was killed
    with hold_lease(ledger.folder):
        status = make_status(ledger)["study"]
    assert (status["state"], status["seconds_left"]) == ("running", None)


def test_a_study_that_its_budget_has_ended_is_complete_until_the_budget_is_raised(ledger: Ledger) -> None:
    budget = BudgetSettings(hours=1.0)
    ledger.study = ledger.study.model_copy(update={"budget": budget})
    ledger.append(TrialEnded(number=1, state=TrialState.INTERRUPTED, reason="the budget has no room for it"))
    ledger.append(TrialStarted(number=2, epochs=2))
    ledger.append(TrialPaused(number=2, epoch=1))
    ledger.append(BudgetReached(part="search", budget=dump_budget(budget), reason="no room"))
    ledger.append(StudyEnded(state=TrialState.COMPLETE))
    assert find_state(ledger)[:2] == (StudyState.COMPLETE, None)
    ledger.study = ledger.study.model_copy(update={"budget": BudgetSettings(hours=2.0)})
    assert find_state(ledger)[0] is StudyState.INTERRUPTED


def test_rows_choose_the_trials_and_change_nothing_else(ledger: Ledger) -> None:
    whole, some = make_status(ledger, now=1.0), make_status(ledger, Rows("state", top=1), now=1.0)
    assert [trial["number"] for trial in some["trials"]] == [1]
    assert some | {"trials": None} == whole | {"trials": None}


@pytest.mark.parametrize("name", ["study_format_1", "study_format_2", "study_version_0_3"])
def test_studies_of_every_earlier_version_have_the_same_fields(name: str, ledger: Ledger) -> None:
    status = make_status(Ledger.open(GOLDEN / name))
    now = make_status(ledger)
    assert json.loads(json.dumps(status, allow_nan=False))["schema"] == SCHEMA
    assert status["study"].keys() == now["study"].keys()
    assert status["trials"]
    assert all(trial.keys() == now["trials"][0].keys() for trial in status["trials"])


def test_the_state_is_that_of_the_process_and_then_of_the_record(ledger: Ledger) -> None:
    with hold_lease(ledger.folder):
        state, reason, holder = find_state(ledger)
        assert (state, reason) == (StudyState.RUNNING, None)
        assert holder is not None
    assert find_state(ledger)[:2] == (StudyState.INTERRUPTED, "no process runs it, the last one died")
    ledger.append(StudyInterrupted(reason="no room"))
    assert find_state(ledger)[:2] == (StudyState.INTERRUPTED, "no room")
    ledger.start_session(1, 1)
    ledger.append(TrialEnded(number=1, state=TrialState.FAILED, reason="no corpus"))
    ledger.append(StudyEnded(state=TrialState.COMPLETE))
    assert find_state(ledger)[:2] == (StudyState.COMPLETE, None)
    ledger.append(ControlGiven(who="me", command="retry", number=1))
    assert find_state(ledger)[:2] == (StudyState.INTERRUPTED, "a trial was reopened after its end")


def test_a_study_that_has_not_begun_or_completed_nothing_is_waiting_or_failed(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    assert find_state(ledger)[0] is StudyState.WAITING
    ledger.start_session(1, 1)
    ledger.append(StudyEnded(state=TrialState.FAILED))
    assert find_state(ledger)[0] is StudyState.FAILED


def run_status(folder: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["status", str(folder), *options], catch_exceptions=False)
    return result.exit_code, result.output


def test_exit_codes_are_given_only_where_they_are_asked_for(ledger: Ledger) -> None:
    assert [EXIT_CODES[state] for state in ("complete", "failed", "running", "interrupted")] == [0, 1, 3, 4]  # type: ignore[index]
    assert run_status(ledger.folder)[0] == 0
    assert run_status(ledger.folder, "--exit-code")[0] == 4
    with hold_lease(ledger.folder):
        code, output = run_status(ledger.folder, "--exit-code", "--json")
        assert (code, json.loads(output)["study"]["state"]) == (3, "running")
    ledger.append(StudyEnded(state=TrialState.FAILED))
    ledger.append(TrialEnded(number=1, state=TrialState.FAILED))
    ledger.append(StudyEnded(state=TrialState.FAILED))
    assert run_status(ledger.folder, "--exit-code")[0] == 1


def test_options_that_exclude_each_other_are_refused(ledger: Ledger) -> None:
    with pytest.raises(UserError, match=r"status was given --json and --watch, but takes one of them"):
        run_status(ledger.folder, "--json", "--watch")


def test_where_output_is_no_terminal_all_trials_are_printed(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    ledger.start_session()
    for number in range(120):
        ledger.append(TrialStarted(number=number, values={"ctc_weight": 0.2}))
    _, output = run_status(ledger.folder)
    assert all(f"\n  {number:04d} " in output for number in range(120))
    assert len(json.loads(run_status(ledger.folder, "--json", "--top", "7")[1])["trials"]) == 7
