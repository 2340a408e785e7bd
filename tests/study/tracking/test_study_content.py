"""What the study's own run holds: a curve of the best so far, a note, its files; and what each trial is for."""

from __future__ import annotations

from pathlib import Path

from simulated_studies import SimulatedStudy

from study.config.study_file import Objective
from study.ledger.events import AnyEvent, SessionStarted, StudyEnded, TrialEnded, TrialStarted, TrialState
from study.ledger.trials import Trials
from study.tracking.run_content import Corpus, build_trial_run, list_files
from study.tracking.study_content import build_study_run, describe_corpus, find_files, list_roles, make_best_curve

SEED = "training.seed"


def end(number: int, time: float, wer: float, state: TrialState = TrialState.COMPLETE) -> TrialEnded:
    return TrialEnded(time=time, number=number, state=state, metrics={"dev/wer": wer, "dev/wer_final": wer / 2})


def test_the_best_so_far_is_a_point_after_each_trial_that_became_complete() -> None:
    events: list[AnyEvent] = [SessionStarted(time=1.0)]
    events += [TrialStarted(time=2.0, number=number) for number in range(4)]
    events += [end(2, 10.0, 40.0), end(0, 20.0, 50.0), end(1, 30.0, 10.0, TrialState.FAILED), end(3, 40.0, 30.0)]
    curve = make_best_curve(Trials(events).values(), Objective())
    assert curve == {
        ("best/dev/wer_final", 1, 10_000): 20.0,
        ("best/dev/wer_final", 2, 20_000): 20.0,
        ("best/dev/wer_final", 3, 40_000): 15.0,
    }
    by_validation = make_best_curve(Trials(events).values(), Objective(metric="dev/wer", ranking="validation"))
    assert list(by_validation.values()) == [40.0, 40.0, 30.0]
    assert build_study_run(Trials(events), "s").points == curve


def test_points_of_the_best_curve_stay_when_more_trials_end() -> None:
    trials = SimulatedStudy().run()
    records = list(trials.values())
    whole = make_best_curve(records, Objective())
    assert len(whole) == 8, "confirmations are not of the search"
    for count in range(1, len(records)):
        assert make_best_curve(records[:count], Objective()).items() <= whole.items()


def test_until_there_is_a_verdict_the_note_names_the_best_trial() -> None:
    trials = Trials([SessionStarted(time=1.0), TrialStarted(time=2.0, number=0, recipe_class="ed"), end(0, 3.0, 40.0)])
    note = build_study_run(trials, "s").tags["mlflow.note.content"]
    assert note == "best so far: trial 0000 (ed), dev/wer_final 20.00"


def test_each_trial_says_what_it_is_for() -> None:
    started = [
        TrialStarted(number=0, baseline="ed", values={"x": 0.5}),
        TrialStarted(number=1, values={"x": 0.1}),
        TrialStarted(number=2, values={"x": 0.1, SEED: 1}),
        TrialStarted(number=3, values={"x": 0.2, SEED: 1}),
        TrialStarted(number=4, values={"x": 0.1, SEED: 1000}, confirms=1),
    ]
    roles = list_roles(Trials([SessionStarted(), *started]))
    assert list(roles.values()) == ["baseline", "proposal", "repeat of 0001", "proposal", "confirmation of 0001"]
    simulated = SimulatedStudy().run()
    assert simulated.selection is not None
    finalists = {finalist.number for finalist in simulated.selection.finalists}
    assert {number for number, role in list_roles(simulated).items() if role == "finalist"} == finalists


def test_a_trials_run_has_its_corpus_role_and_placement(tmp_path: Path) -> None:
    corpus = describe_corpus("/speech/demo", {"hashes": {"corpus": "a" * 64}})
    assert corpus == Corpus("demo", "a" * 36, "/speech/demo")
    assert describe_corpus("/speech/demo", {}) is None
    values = {"auxiliary.placement": "1,3", "final_weight": 0.6}
    record = Trials([SessionStarted(), TrialStarted(number=0, values=values)])[0]
    run = build_trial_run(record, "finalist", corpus)
    assert (run.corpus, run.tags["trial.role"], run.params["placement"]) == (corpus, "finalist", "layers 1 and 3")
    fingerprints = {
        one.fingerprint for one in (run, build_trial_run(record, "proposal", corpus), build_trial_run(record))
    }
    assert len(fingerprints) == 3


def test_a_studys_files_are_those_that_hold_no_password_and_a_report_that_is_written_again_counts(
    tmp_path: Path,
) -> None:
    (tmp_path / "study.yaml").write_text("name: s")
    (tmp_path / "report.html").write_text("one")
    trials = Trials([SessionStarted(time=1.0), StudyEnded(time=2.0, state=TrialState.COMPLETE)])
    before = build_study_run(trials, "s", files=find_files(tmp_path))
    assert list_files(tmp_path, before) == [tmp_path / "study.yaml", tmp_path / "report.html"]
    (tmp_path / "study.yaml").write_text("name: s")  # as each session does
    assert find_files(tmp_path) == before.files
    (tmp_path / "study.yaml").write_text("tracking: postgresql://me:${PGPASSWORD}@host/runs")
    assert "study.yaml" in dict(find_files(tmp_path))
    (tmp_path / "study.yaml").write_text("tracking: postgresql://me:hunter22@host/runs")  # of an earlier version
    assert "study.yaml" not in dict(find_files(tmp_path))
    (tmp_path / "report.html").write_text("two")
    assert build_study_run(trials, "s", files=find_files(tmp_path)).fingerprint != before.fingerprint
