"""A study whose file names a registered model announces its registration at the end, or how to do it later."""

from __future__ import annotations

from pathlib import Path

from ledger_events import end_trial

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.execution.registering import register_best
from study.ledger.events import StudyEnded
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

TINY = named_recipe("tiny", "/speech")


def announce(folder: Path, ended: bool, **keys: str) -> list[str]:
    """What is announced of a study with one complete trial, whose model is not there."""
    study = StudyFile.model_validate({"name": "s", "corpus": "/speech", "trials": 0, **keys})
    ledger = Ledger.create_or_open(folder / "s", study, TINY, {})
    ledger.start_trial(0, TINY, {}, "ed")
    ledger.trial_folder(0).mkdir(parents=True, exist_ok=True)
    end_trial(ledger, 0, TrialState.COMPLETE, metrics={"dev/wer": 40.0})
    if ended:
        ledger.append(StudyEnded(state=TrialState.COMPLETE, best=0))
    lines: list[str] = []
    register_best(ledger, lines.append)
    return lines


def test_nothing_is_registered_unless_it_is_asked_for_and_the_study_has_ended(tmp_path: Path) -> None:
    assert announce(tmp_path / "not-asked", ended=True) == []
    assert announce(tmp_path / "not-ended", ended=False, register_as="asr") == []


def test_a_failure_names_the_command_that_tries_again(tmp_path: Path) -> None:
    (line,) = announce(tmp_path, ended=True, register_as="asr")
    assert line.endswith(f"; register it later with: decred-study export {tmp_path / 's'} --register asr")
