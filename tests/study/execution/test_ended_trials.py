"""Trials that share a training, the best trial's test sets, and what is left of a trial that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ledger_events import list_kinds

from model.recipe.files import named_recipe, read_recipe
from model.training.optimiser import make_optimiser
from model.weights import checkpoint, checkpoint_files
from model.weights.chosen import Chosen, read_chosen
from model.weights.chosen_weights import save_chosen
from model.weights.found_decoding import FoundDecoding, identify_search, save_found
from study.config.study_file import StudyFile
from study.early_stopping.rules import Never
from study.execution.agenda import Agenda
from study.execution.session import Session
from study.ledger.best import export_recipe, find_best
from study.ledger.events import TrialDecoded
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.proposer import Proposer
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Report, TrialConfig

TINY = named_recipe("tiny", "/speech")
BEAMS = {"sampler": "grid", "recipe": {"decoding.beam": {"choice": [1, 2, 4]}}}
WEIGHTS = {"sampler": "random", "ctc_weight": {"uniform": [0.1, 0.6]}}


def open_session(folder: Path, search: dict[str, Any] = WEIGHTS, **changes: Any) -> tuple[Ledger, Session]:
    """A session of a new study, without Tune."""
    content = {"name": "s", "corpus": "/speech", "trials": 2, "baselines": [], "search": search} | changes
    study = StudyFile.model_validate(content)
    ledger = Ledger.create_or_open(folder, study, TINY, {})
    proposer = Proposer(study, TINY)
    agenda = Agenda(
        ledger.trials,
        proposer,
        lambda record: proposer.restore(record, ledger.read_recipe(record)),
        Never(),
        study.failures,
    )
    return ledger, Session(ledger, agenda, Never(), [])


def start(session: Session) -> TrialConfig:
    trial = session.next()
    assert trial is not None
    return trial


def finish(ledger: Ledger, session: Session, trial: TrialConfig, wer: float = 40.0) -> None:
    """As a training does that comes to its end: an epoch, the chosen weights, the last report."""
    session.record_epoch(trial.number, Report({"epoch": 6.0, "step": 60.0, "dev/wer": wer}))
    if read_chosen(Path(trial.task.folder)) is None:
        chosen = Chosen("best", (6,), 6, 60, trial.task.recipe_hash)
        save_chosen(Path(trial.task.folder), {"weight": torch.ones(1)}, chosen)
    tests = {"test/a/wer": 50.0} if trial.task.score_tests else {}
    session.complete(trial.number, {"epoch": 6.0, "finished": 1.0, "dev/wer": wer, "decoding/seconds": 2.0} | tests)


def test_trials_that_differ_in_decoding_alone_train_once(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s", BEAMS, trials=3)
    first = start(session)
    assert session.next() is None, "the second one waits for the training that the first one does"
    assert not session.is_done()
    finish(ledger, session, first)
    second, third = start(session), start(session)
    for trial in (second, third):
        assert read_chosen(Path(trial.task.folder)) == read_chosen(Path(first.task.folder))
        assert ledger.trials[trial.number].training_of == first.number
        finish(ledger, session, trial)
    records = ledger.trials.values()
    assert len({record.recipe_hash for record in records}) == 1
    assert len({record.decoding_hash for record in records}) == 3


def test_the_best_trials_test_sets_are_scored_when_all_have_ended(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s")
    for wer in (30.0, 20.0):
        trial = start(session)
        assert not trial.task.score_tests
        finish(ledger, session, trial, wer)
    assert not session.is_done()
    scoring = start(session)
    assert (scoring.number, scoring.task.score_tests) == (1, True)
    assert session.next() is None
    assert not session.is_done()
    finish_scoring(session, scoring)
    assert session.is_done()
    assert session.next() is None
    best = ledger.trials[1]
    assert (best.state, best.metrics["test/a/wer"], best.metrics["dev/wer"]) == (TrialState.COMPLETE, 50.0, 20.0)
    assert not ledger.trials[0].has_tests
    assert list_kinds(ledger)[-1] == "trial_decoded"
    assert Ledger.open(ledger.folder).trials == ledger.trials


def test_a_corpus_without_test_sets_is_scored_once_and_the_study_ends(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s", trials=1)
    finish(ledger, session, start(session))
    session.complete(start(session).number, {"epoch": 6.0, "finished": 1.0, "dev/wer": 40.0})
    assert session.next() is None
    assert session.is_done()


def finish_scoring(session: Session, trial: TrialConfig) -> None:
    session.complete(trial.number, {"epoch": 6.0, "finished": 1.0, "dev/wer": 99.0, "test/a/wer": 50.0})


@pytest.mark.parametrize(
    ("setting", "scored"), [("best", [True, False]), ("all", [True, True]), ("none", [False, False])]
)
def test_named_baselines_are_scored_with_their_end_and_others_only_where_it_is_asked_for(
    tmp_path: Path, setting: str, scored: list[bool]
) -> None:
    _, session = open_session(tmp_path / "s", trials=1, baselines=["ed"], score_tests=setting)
    assert [start(session).task.score_tests for _ in range(2)] == scored


def test_no_test_set_is_scored_again_or_where_none_is_asked_for(tmp_path: Path) -> None:
    for setting in ("all", "none"):
        ledger, session = open_session(tmp_path / setting, trials=1, score_tests=setting)
        finish(ledger, session, start(session))
        assert session.is_done()


def test_scoring_that_lost_its_workers_is_tried_again_and_another_failure_stops_the_study(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s", trials=1)
    finish(ledger, session, start(session))
    session.fail(start(session).number, Failure(FailureKind.LOST, "worker 0 of 1 was lost"))
    assert session.stopped is None
    session.fail(start(session).number, Failure(FailureKind.ERROR, "ValueError: no"))
    assert session.stopped == "the test sets of the best trial, 0000, could not be scored (ValueError: no)"
    assert ledger.trials[0].state is TrialState.COMPLETE


def test_figures_of_another_decoding_are_no_final_figures(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s", trials=1)
    finish(ledger, session, start(session))
    ledger.append(TrialDecoded(number=0, decoding={}, decoding_hash="other", metrics={"test/a/wer": 1.0}))
    assert not ledger.trials[0].has_tests


def test_a_pruned_trial_keeps_its_last_weights_and_a_paused_one_its_checkpoints(tmp_path: Path) -> None:
    _, session = open_session(tmp_path / "s")
    pruned, paused = start(session), start(session)
    for trial in (pruned, paused):
        model = torch.nn.Linear(2, 2)
        optimiser = make_optimiser(model, TINY.optimiser)
        model(torch.ones(2)).sum().backward()
        optimiser.step()
        position = checkpoint_files.TrainingPosition(2, 20, 0, 0, trial.task.recipe_hash, passes=2, batches=0)
        checkpoint.save_checkpoint(Path(trial.task.folder) / "checkpoints", model, optimiser, position)
    session.prune(pruned.number, "behind")
    session.pause(paused.number, 2, "waits")
    assert not (Path(pruned.task.folder) / "checkpoints").exists()
    chosen = read_chosen(Path(pruned.task.folder))
    assert chosen is not None
    assert (chosen.rule, chosen.epochs) == ("stopped", (2,))
    assert checkpoint_files.latest_checkpoint(Path(paused.task.folder) / "checkpoints") is not None
    assert read_chosen(Path(paused.task.folder)) is None


def leave_search(folder: Path, beam: int) -> FoundDecoding:
    """What a training leaves in its trial's folder when its search found a beam."""
    recipe = read_recipe(folder / "recipe.yaml")
    tried = [
        {"stage": "beam", "decoding": {"beam": size}, "words": {"dev": [size, 0, 0, 10]}, "seconds": 0.5}
        for size in (1, beam)
    ]
    stages = [{"stage": "beam", "decoding": {"beam": beam}, "metrics": {}}]
    decoding = recipe.decoding.model_copy(update={"beam": beam}).model_dump(mode="json")
    found = FoundDecoding(identify_search(recipe), decoding, tried, stages, seconds=1.0, share=0.05)
    save_found(folder, found)
    return found


def test_all_decodings_that_were_tried_are_recorded_and_the_best_trial_is_exported_with_its_own(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s")
    for wer, final, beam in ((40.0, 35.0, 4), (39.0, 36.0, 8)):
        trial = start(session)
        found = leave_search(Path(trial.task.folder), beam)
        session.record_epoch(trial.number, Report({"epoch": 6.0, "step": 60.0, "dev/wer": wer}))
        save_chosen(Path(trial.task.folder), {"w": torch.ones(1)}, Chosen("best", (6,), 6, 60, trial.task.recipe_hash))
        session.complete(trial.number, {"finished": 1.0, "dev/wer": wer, "dev/wer_final": final})
        record = Ledger.open(tmp_path / "s").trials[trial.number]
        assert record.found_decoding == found.decoding
        assert list(record.tried_decodings) == found.tried
    recipe, number = export_recipe(ledger)
    assert (number, recipe.decoding.beam) == (0, 4), "ranked by the decodings that were found"
    assert recipe.hash == ledger.trials[0].recipe_hash
    by_validation = ledger.study.objective.model_copy(update={"ranking": "validation"})
    best = find_best(ledger.trials.values(), by_validation)
    assert best is not None
    assert best.number == 1
    scoring = start(session)
    session.complete(scoring.number, {"finished": 1.0, "test/a/wer": 20.0, "decoding/seconds": 1.0})
    events = [event for event in ledger.log.read() if isinstance(event, TrialDecoded)]
    assert [(event.number, event.decoding["beam"]) for event in events] == [(0, 4)]


def test_final_and_validation_figures_are_never_mixed_in_a_ranking(tmp_path: Path) -> None:
    ledger, session = open_session(tmp_path / "s")
    finish(ledger, session, start(session), wer=40.0)
    trial = start(session)
    session.record_epoch(trial.number, Report({"epoch": 6.0, "step": 60.0, "dev/wer": 45.0}))
    session.complete(trial.number, {"finished": 1.0, "dev/wer": 45.0, "dev/wer_final": 30.0})
    best = find_best(ledger.trials.values(), ledger.study.objective)
    assert best is not None
    assert best.number == 0, "trial 0 has no final figure"
