"""A rule whose first rung is beyond the last epoch of every trial would stop none, so the checks refuse it."""

from __future__ import annotations

from typing import Any

import pytest

from model.errors import UserError
from model.strict import validate
from study.config.run_settings import EarlyStoppingSettings
from study.config.study_file import StudyFile, make_base_recipe
from study.early_stopping.rules import check_grace_epochs
from study.execution.checks import check_space


def study(rule: str, grace_epochs: int, search: dict[str, Any] | None = None, epochs: int = 6) -> StudyFile:
    content = {
        "name": "s",
        "corpus": "c",
        "recipe": {"set": {"training.epochs": epochs}},
        "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "recipe": search or {}},
        "early_stopping": {"rule": rule, "grace_epochs": grace_epochs},
    }
    return StudyFile.model_validate(content)


@pytest.mark.parametrize("rule", ["asha", "asha-promote", "median"])
def test_grace_epochs_above_the_epochs_of_all_trials_are_refused_by_the_checks(rule: str) -> None:
    message = (
        f"early_stopping.grace_epochs is 9, but every trial ends after epoch 6, so {rule} would stop none; set it "
        "below 6, or early_stopping.rule to none"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        check_space(study(rule, 9))


def test_trials_of_a_single_epoch_need_the_rule_none() -> None:
    with pytest.raises(UserError, match=r"after epoch 1, so asha would stop none; set early_stopping\.rule to none$"):
        check_space(study("asha", 3, epochs=1))


def test_the_rule_none_needs_no_rung_and_the_last_epoch_may_be_one() -> None:
    assert check_space(study("none", 9)).proposals == 22
    assert check_space(study("evidence", 3)).proposals == 22
    assert check_space(study("asha", 6)).proposals == 22


@pytest.mark.parametrize("setting", [{"grace_epochs": 9}, {"reduction": 2}, {"metric": "dev/ctc_wer"}], ids=str)
def test_what_the_rule_evidence_finds_itself_is_refused_as_a_setting(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"but the rule evidence finds metric and epoch itself; leave it out"):
        validate(EarlyStoppingSettings, {"rule": "evidence"} | setting, "study.yaml")


@pytest.mark.parametrize("epochs", [{"integer": [4, 12]}, {"choice": [4, 12]}])
def test_searched_epochs_are_compared_by_their_maximum(epochs: dict[str, Any]) -> None:
    for grace_epochs in (9, 12):
        searched = study("asha", grace_epochs, {"training.epochs": epochs})
        check_grace_epochs(searched, make_base_recipe(searched))
    searched = study("asha", 13, {"training.epochs": epochs})
    with pytest.raises(UserError, match="grace_epochs is 13, but every trial ends after epoch 12, so asha would"):
        check_grace_epochs(searched, make_base_recipe(searched))
