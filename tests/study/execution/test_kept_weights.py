"""Whose weights are kept and whose go, and that everything else of a trial stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_session import TINY

from model.api import load_run
from model.errors import UserError
from model.weights.chosen import CHOSEN, REMOVED_FILE, Chosen
from model.weights.chosen_weights import save_chosen
from model.weights.initial import find_initial_weights
from model.weights.model_folder import write_model_folder
from study.config.disk import DiskSettings
from study.config.study_file import Objective, StudyFile
from study.execution import kept_weights
from study.execution.ended_trials import find_unscored, tidy_trial
from study.execution.enqueuing import describe_recipe, make_enqueued
from study.execution.kept_weights import choose_kept
from study.ledger.events import (
    ControlGiven,
    Finalist,
    FinalistsChosen,
    TrialEnded,
    TrialPaused,
    TrialStarted,
    TrialState,
)
from study.ledger.ledger import Ledger
from study.ledger.trials import Trials
from study.search.proposal import Proposal
from study.search.proposer import Proposer

STUDY = StudyFile.model_validate(
    {"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}, "disk": {"keep_best": 2}}
)
ALL = STUDY.model_copy(update={"disk": DiskSettings()})


def make_trials(wers: list[float], first: int = 0, recipe_class: str = "ed", **fields: object) -> Trials:
    """Complete trials of a class, with these figures."""
    trials = Trials()
    for number, wer in enumerate(wers, first):
        started = TrialStarted(number=number, recipe_class=recipe_class, recipe_hash=f"{number}")
        trials.apply(started.model_copy(update=fields))
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": wer}))
    return trials


def test_without_a_number_all_weights_are_kept() -> None:
    assert choose_kept(make_trials([3.0, 2.0, 1.0]), ALL) == {0, 1, 2}


def test_the_best_of_each_class_are_kept() -> None:
    trials = make_trials([30.0, 10.0, 20.0, 40.0])
    for number, wer in ((4, 90.0), (5, 80.0), (6, 70.0)):
        trials.apply(TrialStarted(number=number, recipe_class="decred"))
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": wer}))
    assert choose_kept(trials, STUDY) == {1, 2, 5, 6}


def test_trials_on_the_front_of_two_objectives_are_kept_however_they_rank() -> None:
    study = STUDY.model_copy(update={"objective": Objective(second="parameters")})
    trials = Trials()
    for number, (wer, parameters) in enumerate([(10.0, 9.0), (11.0, 9.0), (12.0, 9.0), (13.0, 5.0), (14.0, 6.0)]):
        trials.apply(TrialStarted(number=number, recipe_class="ed"))
        metrics = {"dev/wer": wer, "parameters": parameters}
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics))
    assert choose_kept(trials, study) == {0, 1, 3}
    assert choose_kept(trials, STUDY) == {0, 1}
    finals = {"dev/wer_final": 99.0, "parameters": 1.0, "dev/wer": 15.0}
    trials.apply(TrialStarted(number=5, recipe_class="ed"))
    trials.apply(TrialEnded(number=5, state=TrialState.COMPLETE, metrics=finals))
    assert choose_kept(trials, study) == {0, 1, 3, 5}


def test_the_best_by_validation_and_by_the_final_decoding_are_kept() -> None:
    trials = Trials()
    for number, (wer, final) in enumerate([(10.0, 9.0), (11.0, 8.0), (12.0, 3.0), (13.0, 2.0), (14.0, 13.0)]):
        trials.apply(TrialStarted(number=number, recipe_class="ed"))
        metrics = {"dev/wer": wer, "dev/wer_final": final}
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics))
    assert choose_kept(trials, STUDY) == {0, 1, 2, 3}


def test_baselines_finalists_confirmations_and_whatever_may_continue_are_kept_however_they_rank() -> None:
    trials = make_trials([1.0, 2.0])
    for number, fields in ((2, {"baseline": "ed"}), (3, {"confirms": 0}), (4, {})):
        trials.apply(TrialStarted(number=number, recipe_class="ed", **fields))  # type: ignore[arg-type]
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": 90.0}))
    finalist = Finalist(number=4, recipe_class="ed", figure=90.0, of=3)
    trials.apply(FinalistsChosen(metric="dev/wer", finalists=(finalist,), looks=4))
    for number, state in ((5, None), (6, TrialState.FAILED), (7, TrialState.INTERRUPTED), (8, TrialState.PRUNED)):
        trials.apply(TrialStarted(number=number, recipe_class="ed"))
        if state is not None:
            trials.apply(TrialEnded(number=number, state=state))
    trials.apply(TrialStarted(number=9, recipe_class="ed"))
    trials.apply(TrialPaused(number=9, epoch=1))
    assert set(trials) - choose_kept(trials, STUDY) == {8}, "one that was pruned has no rank"


def test_a_training_is_kept_for_the_trial_that_shares_it() -> None:
    trials = make_trials([50.0, 3.0, 2.0])
    trials.apply(TrialStarted(number=3, recipe_class="ed", training_of=0))
    trials.apply(TrialEnded(number=3, state=TrialState.COMPLETE, metrics={"dev/wer": 1.0}))
    assert choose_kept(trials, STUDY) == {0, 2, 3}


def test_what_an_enqueued_recipe_starts_from_keeps_its_weights_also_once_that_has_started(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    folders = [end_one(ledger, 0, 50.0)]
    recipe = make_enqueued(describe_recipe(["training.epochs=+2"], 0), ledger)
    ledger.append(ControlGiven(who="ada", command="enqueue", value=recipe.model_dump_json(), id="one"))
    folders += [end_one(ledger, number, wer) for number, wer in ((1, 40.0), (2, 30.0), (3, 20.0))]
    assert [(folder / CHOSEN).is_dir() for folder in folders] == [True, False, True, True]
    ledger.start_trial(4, recipe, {}, enqueued=ledger.trials.steering.enqueued[0])
    ledger.append(TrialEnded(number=4, state=TrialState.COMPLETE, metrics={"dev/wer": 10.0}))
    tidy_trial(ledger, 4)
    assert [(folder / CHOSEN).is_dir() for folder in folders] == [True, False, False, True]


def test_weights_of_a_trial_that_was_enqueued_by_the_path_of_another_machine_are_kept_and_found(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    ledger = Ledger.create_or_open(there / "s", STUDY, TINY, {})
    end_one(ledger, 0, 50.0)
    recipe = make_enqueued(describe_recipe(["training.epochs=+2"], 0), ledger)
    ledger.append(ControlGiven(who="ada", command="enqueue", value=recipe.model_dump_json(), id="one"))
    there.rename(here)
    study = STUDY.model_copy(update={"storage": str(here)})
    ledger = Ledger.create_or_open(here / "s", study, TINY, {})
    folders = [ledger.trial_folder(0), *(end_one(ledger, number, 40.0 - number) for number in (1, 2, 3))]
    assert [(folder / CHOSEN).is_dir() for folder in folders] == [True, False, True, True]
    proposal = Proposer(study, TINY).propose(ledger.trials)
    assert isinstance(proposal, Proposal)
    assert proposal.recipe.hash == recipe.hash
    found = find_initial_weights(proposal.recipe)
    assert found is not None
    assert (found.folder, found.fingerprint) == (folders[0], recipe.init_fingerprint)


@given(st.lists(st.floats(1.0, 99.0), max_size=30))
def test_whichever_trials_come_the_best_so_far_always_has_its_weights(wers: list[float]) -> None:
    """Weights that were removed once do not come back, so each choice is made of what the one before it left."""
    trials, left = Trials(), set[int]()
    for number, wer in enumerate(wers):
        trials.apply(TrialStarted(number=number, recipe_class="ed"))
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": wer}))
        left = (left | {number}) & choose_kept(trials, STUDY)
        assert min(range(number + 1), key=lambda one: (wers[one], one)) in left
        assert len(left) == min(2, number + 1)


def end_one(ledger: Ledger, number: int, wer: float, tests: bool = False) -> Path:
    """A trial that came to its end with weights, as a session tidies it."""
    folder = ledger.trial_folder(number)
    ledger.start_trial(number, TINY, {"ctc_weight": 0.2})
    save_chosen(folder, {"weight": torch.ones(4)}, Chosen("best", (6,), 6, 60, TINY.hash))
    (folder / "hypotheses").mkdir()
    (folder / "hypotheses" / "dev.jsonl").write_text("{}\n")
    (folder / "tokenizer.model").write_bytes(b"pieces")
    metrics = {"dev/wer": wer} | ({"test/a/wer": 5.0} if tests else {})
    ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics))
    tidy_trial(ledger, number)
    return folder


def test_weights_that_are_behind_go_with_a_line_why_and_everything_else_stays(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    folders = [end_one(ledger, number, wer) for number, wer in enumerate((30.0, 20.0, 10.0, 40.0))]
    assert [(folder / CHOSEN).is_dir() for folder in folders] == [False, True, True, False]
    for folder in (folders[0], folders[3]):
        assert (folder / "hypotheses" / "dev.jsonl").exists()
        assert (folder / "recipe.yaml").exists()
        words = r"its weights were removed, 2 of its class were better; train its recipe.yaml again"
        with pytest.raises(UserError, match=words):
            load_run(folder)
        with pytest.raises(UserError, match=words):
            write_model_folder(folder, TINY, tmp_path / "out")
    assert not (folders[1] / REMOVED_FILE).exists()


def test_a_later_session_removes_what_a_crash_left(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", ALL, TINY, {})
    folders = [end_one(ledger, number, 30.0 - number) for number in range(3)]
    (folders[0] / REMOVED_FILE).write_text("its weights were removed, 2 of its class were better\n")
    later = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    assert kept_weights.remove_surplus_weights(later) == [0]
    assert kept_weights.remove_surplus_weights(later) == []
    assert not (folders[0] / CHOSEN).exists()


def test_a_best_trial_without_weights_is_not_scored_and_does_not_hold_the_end(tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, TINY, {})
    folder = end_one(ledger, 0, 30.0)
    assert find_unscored(ledger) == 0
    (folder / REMOVED_FILE).write_text("its weights were removed\n")
    assert find_unscored(ledger) is None
