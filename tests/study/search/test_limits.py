"""Limits of the objective: what breaks one is never best or a finalist, and too large a model is not trained."""

from __future__ import annotations

from typing import Any

import pytest

from model.errors import UserError
from model.network.making import count_parameters
from model.recipe.files import named_recipe, with_values
from study.config.study_file import Objective, StudyFile
from study.ledger.best import describe_broken, find_best, list_broken
from study.ledger.events import SessionStarted, TrialEnded, TrialStarted
from study.ledger.records import TrialRecord, TrialState
from study.ledger.trials import Trials
from study.search.model_size import check_baseline_sizes
from study.search.optuna_trials import convert_record
from study.search.proposal import InfeasiblePoint, Proposal
from study.search.proposer import Proposer
from study.search.space import Space
from study.verdict.finalists import choose_finalists

BASE = named_recipe("tiny", "/speech")
SMALL, LARGE = 1, 4  # layers of the decoder
LIMITED = Objective.model_validate({"limits": {"dev/ilm_perplexity": 40}, "ranking": "validation"})


def make_study(limits: dict[str, float], **changes: Any) -> StudyFile:
    content: dict[str, Any] = {
        "name": "s",
        "corpus": "/speech",
        "trials": 8,
        "baselines": [],
        "search": {"recipe": {"decoder.layers": {"choice": [SMALL, LARGE]}}, "sampler": "random"},
        "objective": {"limits": limits},
    }
    return StudyFile.model_validate(content | changes)


def count(layers: int) -> int:
    return count_parameters(with_values(BASE, {"decoder.layers": layers}))


def record(number: int, wer: float, perplexity: float, **fields: Any) -> TrialRecord:
    metrics = {"dev/wer": wer, "dev/ilm_perplexity": perplexity}
    return TrialRecord(number, TrialState.COMPLETE, metrics=metrics, final_metrics=metrics, **fields)


def test_a_trial_that_breaks_a_limit_is_never_best_and_the_line_says_why() -> None:
    records = [record(0, 10.0, 40.5), record(1, 20.0, 40.0), record(2, 15.0, float("nan"))]
    best = find_best(records, LIMITED)
    assert best is not None
    assert best.number == 1
    assert find_best(records[:1], LIMITED) is None
    assert list(describe_broken(records, LIMITED)) == [
        "above a limit of the objective (dev/ilm_perplexity 40), and so never best: "
        "0000 (dev/ilm_perplexity 40.5), 0002 (dev/ilm_perplexity nan)"
    ]
    assert list_broken(records[0], Objective()) == {}
    assert list(describe_broken(records, Objective())) == []


@pytest.mark.parametrize("name", ["dev/rtf", "dev/rtf_final"])
def test_a_real_time_factor_is_limited_like_any_other_metric(name: str) -> None:
    limited = Objective.model_validate({"limits": {name: 0.2}})
    records = [
        TrialRecord(number, TrialState.COMPLETE, metrics={"dev/wer": 10.0 + number, name: factor})
        for number, factor in enumerate((0.25, 0.2, 0.1))
    ]
    best = find_best(records, limited)
    assert best is not None
    assert best.number == 1
    assert list(describe_broken(records, limited)) == [
        f"above a limit of the objective ({name} 0.2), and so never best: 0000 ({name} 0.25)"
    ]
    trial = convert_record(records[0], Space(make_study({}).search, BASE), "dev/wer", 0, limits={name: 0.2})
    assert trial.constraints == {name: pytest.approx(0.25)}


def test_confirmations_count_in_the_mean_of_their_finalist_whatever_they_show() -> None:
    searched = [record(0, 20.0, 30.0), record(1, 21.0, 30.0)]
    confirmations = [
        record(2, 25.0, 50.0, confirms=0),
        record(3, 10.0, 30.0, confirms=0),
        record(4, 18.0, 30.0, confirms=1),
        record(5, 18.0, 30.0, confirms=1),
    ]
    best = find_best([*searched, *confirmations], LIMITED)
    assert best is not None
    assert best.number == 0, "the mean of 25 and 10 is below 18"


def test_a_trial_that_breaks_a_limit_is_no_finalist() -> None:
    study = make_study(
        {"dev/ilm_perplexity": 40},
        search={"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {}},
        question="decred against ed",
    )
    trials = Trials([SessionStarted()])
    figures = [("ed", 10.0, 50.0), ("ed", 20.0, 30.0), ("decred", 12.0, 39.0)]
    for number, (name, wer, perplexity) in enumerate(figures):
        metrics = {"dev/wer": wer, "dev/wer_final": wer, "dev/ilm_perplexity": perplexity}
        trials.apply(TrialStarted(number=number, recipe_class=name))
        trials.apply(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics))
    chosen = choose_finalists(trials, study)
    assert chosen is not None
    assert {finalist.number for finalist in chosen.finalists} == {1, 2}


def test_the_sampler_knows_by_how_much_a_limit_is_broken() -> None:
    space = Space(make_study({}).search, BASE)
    limits = {"dev/ilm_perplexity": 40.0}
    constraints = [
        convert_record(record(0, 10.0, perplexity), space, "dev/wer", 0, limits=limits).constraints
        for perplexity in (50.0, 30.0, float("nan"))
    ]
    assert constraints == [{"dev/ilm_perplexity": 0.25}, {"dev/ilm_perplexity": -0.25}, {}]


def test_a_recipe_with_too_many_parameters_is_infeasible_and_not_trained() -> None:
    limit = (count(SMALL) + count(LARGE)) / 2
    proposer, trials, tried = Proposer(make_study({"parameters": limit}), BASE), Trials([SessionStarted()]), []
    for _ in range(8):
        given = proposer.propose(trials)
        assert given is not None
        if isinstance(given, InfeasiblePoint):
            assert given.reason == (f"its model has {count(LARGE):,} parameters, objective.limits allows {limit:,.0f}")
            trials.apply(TrialEnded(number=given.number, state=TrialState.INFEASIBLE, point=given.point))
        else:
            assert isinstance(given, Proposal)
            trials.apply(TrialStarted(number=given.number, point=given.point))
        tried.append((given.point["decoder.layers"], isinstance(given, InfeasiblePoint)))
    assert set(tried) == {(SMALL, False), (LARGE, True)}


def test_a_baseline_with_too_many_parameters_is_refused_before_anything_starts() -> None:
    study = make_study({"parameters": 1000}, baselines=["ed"])
    with pytest.raises(
        UserError, match=r"baseline 'ed' cannot be tried: its model has [\d,]+ parameters, .* 1,000; le"
    ):
        check_baseline_sizes(study, BASE)
    check_baseline_sizes(make_study({"parameters": 1e9}, baselines=["ed"]), BASE)


def test_a_limit_of_what_is_no_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="limits"):
        make_study({"speed": 3})
