"""With a second objective the sampler minimises both where no trial is stopped early, and else the first alone."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from ledger_events import start_event

from model.recipe.files import named_recipe
from study.config.study_file import StudyFile
from study.ledger.events import EpochReport, TrialEnded, TrialEpoch
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.search.optuna_trials import SamplerTrials
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.search.sampling import draw_point
from study.search.space import Space

BASE = named_recipe("tiny", "/speech")
SECOND = {"second": "dev/ilm_perplexity"}
STATES = optuna.trial.TrialState
TWO_EPOCHS = (EpochReport(epoch=1, metrics={"dev/wer": 60.0}), EpochReport(epoch=2, metrics={"dev/wer": 40.0}))


def make_study(rule: str = "none", objective: dict[str, Any] | None = None, **changes: Any) -> StudyFile:
    content: dict[str, Any] = {
        "name": "s",
        "corpus": "/speech",
        "trials": 40,
        "baselines": [],
        "search": {"ctc_weight": {"uniform": [0.0, 1.0]}, "startup_trials": 8},
        "objective": objective or {},
        "early_stopping": {"rule": rule},
    }
    return StudyFile.model_validate(content | changes)


def search(study: StudyFile, stopped: int = 0) -> list[float]:
    """The CTC weights that a study tries, whose WER is low near 0.2 and whose perplexity near 0.8; a person stops the
    first `stopped` trials after an epoch."""
    proposer, trials, tried = Proposer(study, BASE), Trials(), []
    while isinstance(proposal := proposer.propose(trials), Proposal):
        weight = proposal.recipe.loss.ctc_weight
        metrics = {"dev/wer": 10 + 100 * (weight - 0.2) ** 2, "dev/ilm_perplexity": 5 + 100 * (weight - 0.8) ** 2}
        state = TrialState.PRUNED if len(tried) < stopped else TrialState.COMPLETE
        trials.apply(start_event(proposal))
        trials.apply(TrialEpoch(number=proposal.number, epoch=1, metrics=metrics))
        trials.apply(TrialEnded(number=proposal.number, state=state, metrics=metrics))
        tried.append(weight)
    return tried


def share_near(tried: list[float], place: float) -> float:
    later = tried[8:]
    return sum(abs(weight - place) < 0.15 for weight in later) / len(later)


def test_where_no_trial_is_stopped_the_search_goes_to_both_ends_of_the_front() -> None:
    one, two = search(make_study()), search(make_study(objective=SECOND))
    assert share_near(one, 0.2) > 0.7
    assert share_near(one, 0.8) < 0.1
    assert min(share_near(two, 0.2), share_near(two, 0.8)) > 0.15
    assert sum(0.05 < weight < 0.95 for weight in two[8:]) > 0.8 * len(two[8:]), "the front is from 0.2 to 0.8"


@pytest.mark.parametrize("rule", ["evidence", "asha", "median", "asha-promote"])
def test_where_trials_may_be_stopped_a_second_objective_changes_no_proposal(rule: str) -> None:
    assert search(make_study(rule, SECOND, trials=14)) == search(make_study(rule, trials=14))


def test_trials_that_a_person_stopped_do_not_end_the_search_of_both() -> None:
    assert len(search(make_study(objective=SECOND, trials=14), stopped=3)) == 14


def test_two_classes_learn_both_objectives_from_each_other() -> None:
    changes: dict[str, Any] = {
        "search": {"ctc_weight": {"uniform": [0.0, 1.0]}, "auxiliary": {}, "startup_trials": 4},
        "question": "decred against ed",
        "trials": 24,
    }
    tried = search(make_study(objective=SECOND, **changes))
    assert len(tried) == 24
    assert tried != search(make_study(**changes))


def test_a_complete_trial_without_the_second_figure_teaches_nothing_and_a_stopped_one_has_no_value() -> None:
    space = Space(make_study().search, BASE)
    known: dict[str, Any] = {"point": {"ctc_weight": 0.3}, "epochs": TWO_EPOCHS}
    records = {
        0: TrialRecord(0, TrialState.COMPLETE, metrics={"dev/wer": 40.0, "dev/rtf": 0.1}, **known),
        1: TrialRecord(1, TrialState.COMPLETE, metrics={"dev/wer": 40.0}, **known),
        2: TrialRecord(2, TrialState.COMPLETE, metrics={"dev/wer": 40.0, "dev/rtf": math.nan}, **known),
        3: TrialRecord(3, TrialState.PRUNED, metrics={"dev/wer": 40.0, "dev/rtf": 0.1}, **known),
        4: TrialRecord(4, TrialState.RUNNING, metrics={"dev/wer": 40.0, "dev/rtf": 0.1}, **known),
    }
    made = SamplerTrials(space, "dev/wer", lambda record: {}, second="dev/rtf").update(records)
    assert [(trial.state, trial.values) for trial in made] == [
        (STATES.COMPLETE, [40.0, 0.1]),
        (STATES.FAIL, None),
        (STATES.FAIL, None),
        (STATES.PRUNED, None),
        (STATES.RUNNING, None),
    ]
    assert made[3].intermediate_values == {}


def test_optuna_refuses_what_would_be_needed_to_minimise_two_metrics_of_stopped_trials() -> None:
    """The reason for the rule above: where this passes no more, stopped trials may be used."""
    search = make_study().search.model_copy(update={"startup_trials": 1})
    space = Space(search, BASE)
    complete = TrialRecord(0, TrialState.COMPLETE, metrics={"dev/wer": 40.0, "dev/rtf": 0.1}, point={"ctc_weight": 0.3})
    (given,) = SamplerTrials(space, "dev/wer", lambda record: {}, second="dev/rtf").update({0: complete})
    stopped = optuna.create_trial(
        state=STATES.PRUNED, params=given.params, distributions=given.distributions, intermediate_values={1: 60.0}
    )
    stopped.number = 2
    with pytest.raises(RuntimeError, match="single direction cannot be retrieved from a multi-objective study"):
        draw_point(space, search, 3, [given, stopped], objectives=2)
