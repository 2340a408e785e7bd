"""What a run must hold is a function of its trial's record, and different contents have different fingerprints."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from simulated_studies import SimulatedStudy

from study.config.study_file import Objective
from study.ledger.event_lines import from_line, to_line
from study.ledger.events import (
    AnyEvent,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialEnded,
    TrialEpoch,
    TrialRetried,
    TrialStarted,
)
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.tracking.run_content import build_trial_run, list_files
from study.tracking.study_content import build_study_run, make_best_curve
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict


def fold(*events: object) -> TrialRecord:
    """Trial 0 after these events."""
    return Trials([SessionStarted(time=0.5), *events])[0]  # type: ignore[list-item]


STARTED = TrialStarted(time=1.0, number=0, recipe_hash="abc", values={"ctc_weight": 0.3}, baseline="ed")
EPOCHS = [
    TrialEpoch(time=1.0 + epoch, number=0, epoch=epoch, metrics={"dev/wer": 50.0 - epoch, "train/loss": math.nan})
    for epoch in (1, 2, 3)
]
ENDED = TrialEnded(time=9.0, number=0, state=TrialState.COMPLETE, metrics={"test/a/wer": 40.0})


def decode(time: float, metrics: dict[str, float]) -> TrialDecoded:
    return TrialDecoded(time=time, number=0, decoding={}, decoding_hash="", metrics=metrics)


def test_each_metric_of_an_epoch_is_a_point_at_that_epoch_and_time() -> None:
    points = build_trial_run(fold(STARTED, *EPOCHS)).points
    assert list(points) == [
        ("dev/wer", 1, 2000), ("train/loss", 1, 2000),
        ("dev/wer", 2, 3000), ("train/loss", 2, 3000),
        ("dev/wer", 3, 4000), ("train/loss", 3, 4000),
    ]  # fmt: skip
    assert points["dev/wer", 1, 2000] == 49.0
    assert math.isnan(points["train/loss", 1, 2000])


def test_the_figures_of_the_test_sets_stand_beside_the_last_epoch_at_the_trials_end() -> None:
    content = build_trial_run(fold(STARTED, *EPOCHS, ENDED))
    assert list(content.points.items())[-1] == (("test/a/wer", 3, 9000), 40.0)
    assert (content.status, content.started, content.ended) == ("FINISHED", 1000, 9000)


def test_a_final_figure_that_a_later_decoding_changed_stands_at_the_time_of_that() -> None:
    ended = ENDED.model_copy(update={"metrics": {"dev/wer": 44.0, "test/a/wer": 40.0}})
    decoded = decode(20.0, {"dev/wer": 42.0, "test/a/wer": 40.0, "test/b/wer": 7.0})
    points = build_trial_run(fold(STARTED, *EPOCHS, ended, decoded)).points
    assert {point: value for point, value in points.items() if point[2] > 4000} == {
        ("chosen/dev/wer", 3, 20_000): 42.0,
        ("test/a/wer", 3, 9000): 40.0,
        ("test/b/wer", 3, 9000): 7.0,
    }


def test_the_studys_curve_of_the_best_has_newer_points_from_a_trial_on_that_was_decoded_again() -> None:
    events: list[AnyEvent] = [SessionStarted(time=0.5)]
    for number, wer in enumerate((30.0, 20.0, 25.0)):
        events.append(TrialStarted(time=1.0, number=number))
        metrics = {"dev/wer_final": wer}
        events.append(TrialEnded(time=2.0 + number, number=number, state=TrialState.COMPLETE, metrics=metrics))

    def curve(*more: AnyEvent) -> dict[tuple[int, int], float]:
        points = make_best_curve(Trials([*events, *more]).values(), Objective())
        return {(step, time): value for (_, step, time), value in points.items()}

    assert curve() == {(1, 2000): 30.0, (2, 3000): 20.0, (3, 4000): 20.0}
    again = decode(50.0, {"dev/wer_final": 15.0}).model_copy(update={"number": 1})
    assert curve(again) == {(1, 2000): 30.0, (2, 50_000): 15.0, (3, 50_000): 15.0}


def test_a_figure_of_the_chosen_weights_has_a_name_of_its_own_beside_its_curve() -> None:
    ended = ENDED.model_copy(update={"metrics": {"dev/wer": 44.0, "dev/wer_final": 43.0}})
    points = build_trial_run(fold(STARTED, *EPOCHS, ended)).points
    assert points["chosen/dev/wer", 3, 9000] == 44.0
    assert points["dev/wer_final", 3, 9000] == 43.0
    assert [value for (name, *_), value in points.items() if name == "dev/wer"] == [49.0, 48.0, 47.0]


def test_an_epoch_that_is_reported_again_is_one_point_and_what_followed_it_is_none() -> None:
    again = TrialEpoch(time=7.0, number=0, epoch=2, metrics={"dev/wer": 20.0})
    points = build_trial_run(fold(STARTED, *EPOCHS, again)).points
    assert points == {("dev/wer", 1, 2000): 49.0, ("train/loss", 1, 2000): points["train/loss", 1, 2000]} | {
        ("dev/wer", 2, 7000): 20.0
    }


def test_a_run_is_named_after_its_trial_and_baseline_and_has_what_was_tried() -> None:
    content = build_trial_run(fold(STARTED))
    assert content.name == "0000 ed"
    assert content.params == {"ctc_weight": "0.3", "recipe_hash": "abc", "baseline": "ed", "trial": "0"}
    assert content.tags == {"trial.state": "running", "trial.reason": "", "trial.role": "baseline"}
    assert build_trial_run(fold(STARTED.model_copy(update={"baseline": None}))).name == "0000"
    confirming = STARTED.model_copy(update={"baseline": None, "confirms": 7, "recipe_class": "ed"})
    assert build_trial_run(fold(confirming)).name == "0000 confirms 0007"
    assert build_trial_run(fold(confirming)).params["class"] == "ed"


def test_retries_epoch_and_source_are_tags_where_there_are_any() -> None:
    retried = TrialRetried(time=5.0, number=0, reason="a worker was lost", count=2)
    tags = build_trial_run(replace(fold(STARTED, *EPOCHS, retried), source="other/4")).tags
    assert tags == {
        "trial.state": "interrupted",
        "trial.reason": "a worker was lost",
        "trial.role": "baseline",
        "trial.epoch": "3",
        "trial.retries": "2",
        "trial.source": "other/4",
    }


def test_a_trial_that_a_session_left_running_is_interrupted_by_the_next_one() -> None:
    trials = Trials([SessionStarted(time=0.5), STARTED, SessionStarted(time=20.0)])
    content = build_trial_run(trials[0])
    assert (content.status, content.ended) == ("KILLED", 20_000)
    assert build_study_run(trials, "probe").status == "RUNNING"


def test_a_study_that_stops_before_its_end_names_the_best_trial_so_far() -> None:
    stopped = StudyInterrupted(time=7.0, best=3, best_recipe_hash="abc")
    content = build_study_run(Trials([SessionStarted(time=0.5), stopped]), "probe")
    assert (content.number, content.name, content.status) == (None, "probe", "KILLED")
    assert (content.started, content.ended) == (500, 7000)
    assert content.tags == {
        "study.status": "interrupted",
        "trial.role": "study",
        "study.best_trial": "3",
        "study.best_recipe_hash": "abc",
    }
    failed = build_study_run(Trials([SessionStarted(time=0.5), StudyEnded(time=7.0, state=TrialState.FAILED)]), "probe")
    assert (failed.status, failed.tags) == ("FAILED", {"study.status": "failed", "trial.role": "study"})


def test_the_studys_own_run_has_the_verdict_as_its_note() -> None:
    trials = SimulatedStudy().run()
    verdict = make_verdict(trials)
    assert verdict is not None
    note = build_study_run(trials, "s").tags["mlflow.note.content"]
    lines = describe_verdict(verdict)
    assert lines[0].startswith("verdict: ")
    assert note.split("\n\n")[:-1] == [lines[0].removeprefix("verdict: "), *lines[1:]]
    assert "mlflow.note.content" not in build_study_run(Trials(), "s").tags


def test_a_reason_keeps_what_every_database_takes() -> None:
    failed = TrialEnded(time=3.0, number=0, state=TrialState.FAILED, reason="a\0b" + "c" * 9000)
    assert build_trial_run(fold(STARTED, failed)).tags["trial.reason"] == "ab" + "c" * 4998


CHANGES = [
    replace(EPOCHS[2], time=4.5),
    TrialEpoch(time=8.0, number=0, epoch=4, metrics={"dev/wer": 1.0}),
    TrialRetried(time=8.0, number=0, reason="lost", count=1),
    TrialStarted(time=8.0, number=0, recipe_hash="abc", values={"ctc_weight": 0.4}, baseline="ed"),
    ENDED,
    ENDED.model_copy(update={"metrics": {"test/b/wer": 40.0}}),
]


def test_every_change_of_a_record_changes_its_fingerprint() -> None:
    records = [fold(STARTED, *EPOCHS), *(fold(STARTED, *EPOCHS, change) for change in CHANGES)]
    decodings = [decode(10.0, {"test/a/wer": 39.0}), decode(11.0, {"test/a/wer": 38.0}), decode(12.0, {"new": 1.0})]
    records += [fold(STARTED, *EPOCHS, ENDED, *decodings[: count + 1]) for count in range(3)]
    assert len({build_trial_run(record).fingerprint for record in records}) == len(records)


def test_a_decoding_that_finds_what_was_there_changes_no_fingerprint() -> None:
    records = [fold(STARTED, *EPOCHS, ENDED, *more) for more in ([], [decode(10.0, {"test/a/wer": 40.0})])]
    assert len({build_trial_run(record).fingerprint for record in records}) == 1


@pytest.mark.parametrize("value", [0.1, 1e22, 1e-9, 3, True, "text"])
def test_a_record_read_from_its_file_has_the_fingerprint_of_the_one_in_memory(value: bool | int | float | str) -> None:
    events = [
        STARTED.model_copy(update={"values": {"value": value}}),
        TrialEpoch(number=0, epoch=1, metrics={"dev/wer": 1 / 3, "train/loss": math.inf}),
        TrialEnded(number=0, state=TrialState.COMPLETE, metrics={"test/a/wer": math.inf}),
    ]
    read = [from_line(to_line(event)) for event in events]
    assert build_trial_run(fold(*events)).fingerprint == build_trial_run(fold(*read)).fingerprint
    assert build_trial_run(fold(*events)).points.keys() == build_trial_run(fold(*read)).points.keys()


def test_the_files_of_an_ended_trial_are_recipe_start_hypotheses_errors_and_the_broken_batchs_names(tmp_path) -> None:
    folder = tmp_path / "trials" / "0000"
    (folder / "hypotheses").mkdir(parents=True)
    names = ["recipe.yaml", "initialisation.json", "hypotheses/test-a.jsonl", "error-0.txt", "broken-batch-0.json"]
    for name in [*names, "broken-batch-0.safetensors", "last.safetensors"]:
        (folder / name).write_text("x")
    assert list_files(tmp_path, build_trial_run(fold(STARTED))) == []
    assert list_files(tmp_path, build_trial_run(fold(STARTED, ENDED))) == [folder / name for name in names]
