"""`decode`: an ended study's models are decoded again; nothing is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hanging_training import read_silent_file
from ledger_events import list_kinds

from model.data import features
from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training import run as training_run
from model.training.loop import train
from study.config.study_file import StudyFile
from study.execution import decode
from study.execution.decode import decode_study
from study.ledger.events import StudyEnded, TrialEnded, TrialEpoch, TrialState
from study.ledger.ledger import Ledger

STUDY = StudyFile.model_validate({"name": "s", "corpus": "/speech", "trials": 0, "baselines": ["ed"]})


def record_trial(ledger: Ledger, number: int, recipe: Recipe, score_tests: bool) -> dict[str, float]:
    """Train a trial without Ray and record it as a session does; its last report."""
    ledger.start_trial(number, recipe, {})
    reports: list[dict[str, float]] = []
    train(recipe, ledger.trial_folder(number), reports.append, score_tests)
    for report in reports[:-1]:
        ledger.append(TrialEpoch(number=number, epoch=int(report["epoch"]), metrics=report))
    ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=reports[-1]))
    return reports[-1]


@pytest.fixture
def ended(make_recipe, tmp_path: Path) -> Ledger:
    """A study of two trained models, of which the first has its test sets scored."""
    recipes = [make_recipe({"training.epochs": 1, "training.seed": seed}) for seed in range(2)]
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, recipes[0], {})
    for number, recipe in enumerate(recipes):
        record_trial(ledger, number, recipe, score_tests=number == 0)
    ledger.append(StudyEnded(state=TrialState.COMPLETE, best=0))
    return Ledger.open(tmp_path / "s")


def test_every_complete_trial_is_searched_ranked_and_scored_again_and_none_trained(
    ended: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "make_optimiser", None)  # nothing can be trained
    before = dict(ended.trials)
    lines: list[str] = []
    decode_study(ended, 0.9, lines.append)
    reopened = Ledger.open(ended.folder).trials
    for number in (0, 1):
        record = reopened[number]
        assert record.state is TrialState.COMPLETE
        assert record.epochs == before[number].epochs
        content = json.loads((ended.trial_folder(number) / "decoding.json").read_text())
        assert list(record.tried_decodings) == content["tried"]
        assert record.found_decoding == content["decoding"]
        assert list(record.decoding_stages) == content["stages"]
        wer = record.decoding_stages[-1]["metrics"]["dev/wer"]
        assert record.metrics["dev/wer_final"] == pytest.approx(wer)
        assert record.metrics["dev/wer"] == before[number].metrics["dev/wer"]
        assert lines[number].startswith(
            f"trial 000{number}: dev/wer {record.metrics['dev/wer']:.2f} -> {wer:.2f} with beam"
        )
        assert lines[number].endswith(f"{100 * content['share']:.0f} % of its training")
    assert reopened[0].has_tests
    assert not any(name.startswith("test/") for name in reopened[1].metrics), "its test sets were not looked at"
    assert reopened.study_state is TrialState.COMPLETE
    assert list_kinds(ended)[-1] == "study_ended"


def test_changed_decoding_settings_are_searched_without_any_training(
    ended: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "make_optimiser", None)  # nothing can be trained
    changed = {"decoding_search.ctc_weight": [0.9], "decoding_search.beam": [], "decoding.beam": 2}
    decode_study(ended, 0.9, lambda _: None, with_values(ended.base_recipe, changed))
    tried = Ledger.open(ended.folder).trials[0].tried_decodings[0]["decoding"]
    assert (tried["beam"], tried["ctc_weight"]) == (2, ended.base_recipe.decoding.ctc_weight)
    settings = json.loads((ended.trial_folder(0) / "decoding.json").read_text())["search"]["settings"]
    assert (settings["ctc_weight"], settings["beam"]) == ([0.9], [])


def test_what_the_study_searches_of_the_decoding_stays_each_trials_own(make_recipe) -> None:
    recipe = make_recipe({"decoding.ctc_weight": 0.7})
    base = make_recipe({"decoding.ctc_weight": 0.1, "decoding.beam": 3})
    decoded = decode._decoded_as(base, recipe, ["decoding.ctc_weight", "loss.ctc_weight"]).decoding
    assert (decoded.ctc_weight, decoded.beam) == (0.7, 3)


def test_a_search_that_was_done_is_not_done_again(ended: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_study(ended, 0.5, lambda _: None)
    monkeypatch.setattr("model.training.ending.search_decoding", None)
    decode_study(Ledger.open(ended.folder), 0.5, lambda _: None)
    with pytest.raises(TypeError):
        decode_study(Ledger.open(ended.folder), 0.6, lambda _: None)


def test_a_study_that_has_not_ended_can_be_continued_afterwards(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe({"training.epochs": 1})
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, recipe, {})
    record_trial(ledger, 0, recipe, score_tests=False)
    decode_study(Ledger.open(tmp_path / "s"), 0.1, lambda _: None)
    reopened = Ledger.open(tmp_path / "s")
    assert reopened.trials.study_state is TrialState.INTERRUPTED
    assert reopened.trials.best == (0, recipe.hash)


def test_a_decoding_that_hangs_ends_with_one_line_and_its_stacks_in_the_trials_folder(
    ended: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = ended.study.failures.model_copy(update={"stall_seconds": 3.0})
    monkeypatch.setattr(ended, "study", ended.study.model_copy(update={"failures": failures}))
    # As of a file system whose server is away: the map of the features is opened, and nothing comes.
    monkeypatch.setattr(features, "_open_part", lambda path: read_silent_file(tmp_path))
    with pytest.raises(UserError) as raised:
        decode_study(ended, 0.9, lambda _: None)
    stacks = ended.trial_folder(0) / "stacks-rank0.txt"
    line = str(raised.value)
    assert re.match(r"decoding trial 0000 made no progress for \d+ s \(failures.stall_seconds 3\) in \S+:\d+ in ", line)
    assert f"all threads are in {stacks}." in line
    assert re.search(
        r'in read_silent_file\n(.*\n)+.*/model/data/features\.py", line \d+ in __getitem__', stacks.read_text()
    )
    assert Ledger.open(ended.folder).trials[0].tried_decodings == ()


def test_a_study_without_a_trained_model_is_one_line(make_recipe, tmp_path: Path) -> None:
    ledger = Ledger.create_or_open(tmp_path / "s", STUDY, make_recipe(), {})
    ledger.start_trial(0, make_recipe(), {})
    with pytest.raises(
        UserError, match=r"study 's' in .* has no complete trial whose weights are there; continue it with"
    ):
        decode_study(ledger, None, lambda _: None)


def test_without_a_share_it_is_the_recipes_or_the_default(make_recipe) -> None:
    assert decode._with_search(make_recipe(), None).decoding_search.share == 0.1
    assert decode._with_search(make_recipe({"decoding_search.share": 0.2}), None).decoding_search.share == 0.2
    assert decode._with_search(make_recipe(), 0.3).decoding_search.share == 0.3
