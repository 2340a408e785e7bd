"""`trial STUDY N retry`: a trial that failed is tried again, by the next session and nobody else."""

from __future__ import annotations

import optuna
import pytest
from ledger_events import end_trial, list_kinds

from model.errors import UserError
from study.early_stopping.rules import values_by_epoch
from study.execution.reopen import reopen_trial
from study.ledger.events import ControlGiven, StudyEnded, TrialEnded
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.optuna_trials import SamplerTrials
from study.search.proposer import Proposer
from study.search.space import Space


@pytest.fixture
def ended(old: Ledger) -> Ledger:
    """A study of four trials that has come to its end; trial 3 failed after its last epoch."""
    end_trial(old, 3, TrialState.FAILED, "KeyError: 3")
    old.append(StudyEnded(state=TrialState.COMPLETE, best=0, best_recipe_hash=old.trials[0].recipe_hash))
    return Ledger.open(old.folder)


def test_a_reopened_trial_is_interrupted_after_its_last_epoch_and_the_study_has_not_ended(ended: Ledger) -> None:
    record = reopen_trial(ended, 3, print)
    assert (record.state, record.epoch) == (TrialState.INTERRUPTED, 3)
    assert record.reason is not None
    assert record.reason.startswith("reopened by ")
    ledger = Ledger.open(ended.folder)
    assert ledger.trials[3] == record
    assert not ledger.trials.has_ended
    assert (ledger.trials.study_state, ledger.trials.best) == (TrialState.INTERRUPTED, ended.trials.best)
    assert list_kinds(ledger)[-3:] == ["session_started", "control_given", "study_interrupted"]
    (control,) = [event for event in ledger.log.read() if isinstance(event, ControlGiven)]
    assert (control.command, control.number) == ("retry", 3)
    assert "@" in control.who
    assert control.time > 0


def test_the_sampler_the_rule_and_the_budget_count_a_reopened_trial_as_one_that_runs(ended: Ledger) -> None:
    space, metric = Space(ended.study.search, ended.base_recipe), ended.study.objective.metric
    proposer = Proposer(ended.study, ended.base_recipe, ended.read_recipe)
    remaining = proposer.count_remaining(ended.trials)
    assert 3 not in values_by_epoch(ended.trials, metric)
    reopen_trial(ended, 3, print)
    trials = Ledger.open(ended.folder).trials
    assert proposer.count_remaining(trials) == remaining
    assert list(values_by_epoch(trials, metric)[3]) == [1, 2, 3]
    sampled = SamplerTrials(space, metric, lambda record: {}).update(trials)
    assert sampled[3].state is optuna.trial.TrialState.RUNNING


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "trial 0000 is complete; only one that failed, or that could not be trained, can be tried again"),
        (1, "trial 0001 is pruned; only one that failed"),
        (4, "trial 0004 is infeasible and makes no recipe; only one that failed"),
        (9, "has no trial 9; it has 0 to 4"),
    ],
)
def test_other_trials_are_refused_in_one_line_and_nothing_is_written(number: int, expected: str, ended: Ledger) -> None:
    ended.append(TrialEnded(number=4, state=TrialState.INFEASIBLE, reason="it makes no recipe"))
    before = len(list_kinds(ended))
    with pytest.raises(UserError, match=expected):
        reopen_trial(Ledger.open(ended.folder), number, print)
    assert len(list_kinds(ended)) == before


def test_a_study_that_a_driver_runs_is_refused_with_what_to_do(ended: Ledger) -> None:
    with hold_lease(ended.folder), pytest.raises(UserError, match=r"is being run by .*; wait until it ends"):
        reopen_trial(ended, 3, print)
    assert Ledger.open(ended.folder).trials[3].state is TrialState.FAILED
