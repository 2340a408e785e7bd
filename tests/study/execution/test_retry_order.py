"""A trial that a person has tried again counts for the stopping rule as it will in the next session."""

from __future__ import annotations

from pathlib import Path

from open_session import TINY, OpenSession, give, report, start

from study.config.run_settings import EarlyStoppingSettings
from study.early_stopping.evidence import Evidence
from study.early_stopping.rules import build_rule
from study.workers.failure import Failure, FailureKind


def test_a_retried_trial_that_had_all_its_epochs_is_for_the_rule_one_that_has_ended_as_in_a_new_session(
    tmp_path: Path,
) -> None:
    rule = Evidence("dev/wer", complete_first=8)
    running = OpenSession(tmp_path / "s", rule=rule)
    give(running, "set", value="trials=8")
    for number in range(8):
        assert start(running) == number
        for epoch in range(1, TINY.training.epochs + 1):
            shown = report(epoch, **{"dev/wer": 10.0 * number - epoch})
            running.session.record_epoch(number, shown)
            rule.decide(number, epoch, shown.metrics, baseline=number < 2, last=epoch == TINY.training.epochs)
        if number < 7:
            running.session.complete(number, {"dev/wer": 10.0 * number, "finished": 1.0})
    running.session.fail(7, Failure(FailureKind.ERROR, "KeyError: a test set"))
    assert rule.find_rung() is None, "seven have ended, and eight are asked for"
    give(running, "retry", 7)
    settings = EarlyStoppingSettings.model_validate({"rule": "evidence", "complete_first": 8})
    rebuilt = build_rule(settings, "dev/wer", running.ledger.trials)
    assert isinstance(rebuilt, Evidence)
    assert rule.find_rung() == rebuilt.find_rung()
    assert rule.find_rung() is not None
    assert rule._ended == rebuilt._ended
