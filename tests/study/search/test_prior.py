"""An earlier study as a prior: what it found is tried first and drawn from, and its results never count."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_events import end_trial, report_epoch, start_event

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.ledger.events import TrialEnded, TrialEpoch, TrialState
from study.ledger.ledger import Ledger
from study.ledger.trials import Trials
from study.search.prior import open_prior, read_prior
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.search.space import Space

SMALL, LARGE = named_recipe("tiny", "speech"), named_recipe("base", "speech")  # decoders of 4 and 6 layers or more
SEARCH: dict[str, Any] = {
    "ctc_weight": {"uniform": [0.2, 0.6]},
    "auxiliary": {"count": [0, 2], "final_weight": [0.3, 0.9]},
    "recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 2e-3]}},
}
FOUND = (  # WER, CTC weight, placement, weights
    (30.0, 0.3, [], []),
    (20.0, 0.4, [3], [0.4]),
    (21.0, 0.9, [1, 3], [0.2, 0.3]),
    (25.0, 0.5, [], []),
    (26.0, 0.5, [2], [0.4]),
)


def make_study(trials: int = 20, question: str | None = None, **search: Any) -> StudyFile:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": (), "question": question}
    return StudyFile.model_validate(content | {"search": SEARCH | search})


def make_recipe(ctc_weight: float, placement: list[int], weights: list[float]) -> Recipe:
    auxiliary = {"placement": placement, "weights": weights}
    return with_values(SMALL, {"loss.ctc_weight": ctc_weight, "loss.auxiliary": auxiliary})


@pytest.fixture
def earlier(tmp_path: Path) -> Ledger:
    """A study of the small model that found `FOUND`, and one trial that was stopped with a lower WER than all."""
    ledger = Ledger.create_or_open(tmp_path / "small", make_study(), SMALL, {})
    for number, (wer, *rest) in enumerate([*FOUND, (1.0, 0.25, [1], [0.3])]):
        ledger.start_trial(number, make_recipe(*rest), {})  # type: ignore[arg-type]
        report_epoch(ledger, number, 1, {"dev/wer": wer})
        end_trial(ledger, number, TrialState.COMPLETE if number < len(FOUND) else TrialState.PRUNED)
    return ledger


def propose_all(study: StudyFile, trials: Trials, base: Recipe = LARGE) -> list[Proposal]:
    """All proposals; each is trained to a WER that says nothing."""
    proposals = []
    while (proposal := Proposer(study, base).propose(trials)) is not None:
        assert isinstance(proposal, Proposal)
        trials.apply(start_event(proposal))
        metrics = {"dev/wer": 50.0 + random.Random(proposal.number).random()}
        trials.apply(TrialEpoch(number=proposal.number, epoch=1, metrics=metrics))
        trials.apply(TrialEnded(number=proposal.number, state=TrialState.COMPLETE, metrics=metrics))
        proposals.append(proposal)
    return proposals


def describe(proposal: Proposal) -> tuple[Any, ...]:
    loss = proposal.recipe.loss
    return round(loss.ctc_weight, 6), loss.auxiliary.placement, tuple(round(w, 6) for w in loss.auxiliary.weights)


def test_the_best_of_each_class_are_tried_first_at_the_same_relative_depth_within_this_studys_ranges(
    earlier: Ledger,
) -> None:
    study = make_study()
    prior = read_prior(earlier, Proposer(study, LARGE).class_spaces)
    assert [(one.recipe_class, one.trial) for one in prior.found] == [
        *[("decred", number) for number in (1, 2, 4)],
        *[("ed", number) for number in (3, 0)],
    ]
    first = propose_all(study, Trials([prior]))[:4]
    scale = LARGE.decoder.layers // SMALL.decoder.layers
    deep, shallow = round(3 * LARGE.decoder.layers / 4), round(LARGE.decoder.layers / 4)
    assert scale >= 1
    assert [describe(one) for one in first] == [
        (0.4, (deep,), (0.4,)),
        (0.5, (), ()),
        (0.6, (shallow, deep), (0.2, 0.3)),  # a CTC weight of 0.9 is outside
        (0.3, (), ()),
    ]


def test_proposals_need_the_earlier_study_no_more_once_its_findings_are_recorded(earlier: Ledger) -> None:
    study = make_study(trials=8, prior="/is/gone")
    prior = read_prior(earlier, Proposer(study, LARGE).class_spaces)
    whole, halves = propose_all(study, Trials([prior])), Trials([prior])
    again = propose_all(make_study(trials=3, prior="/is/gone"), halves) + propose_all(study, halves)
    assert again == whole


def test_its_results_are_no_trials_of_this_study(earlier: Ledger) -> None:
    trials = Trials([read_prior(earlier, Proposer(make_study(), LARGE).class_spaces)])
    assert not trials
    assert Proposer(make_study(), LARGE).count_remaining(trials) == 20
    propose_all(make_study(), trials)
    assert min(record.metrics["dev/wer"] for record in trials.values()) >= 50.0


def test_random_placements_are_near_those_found_in_about_half_of_all_cases(earlier: Ledger) -> None:
    study = make_study(trials=400, question="none", sampler="random")
    prior = read_prior(earlier, Proposer(study, LARGE).class_spaces)
    depths: dict[bool, Counter[int]] = {}
    for with_prior in (True, False):
        proposals = propose_all(study, Trials([prior] if with_prior else []))
        depths[with_prior] = Counter(one.recipe.loss.auxiliary.placement[-1:] for one in proposals)
    deep = (round(3 * LARGE.decoder.layers / 4),)
    assert depths[True][deep] > 1.3 * depths[False][deep]
    assert all(count > 0 for count in depths[True].values())
    assert depths[True].keys() >= depths[False].keys(), "nothing is excluded"


@given(st.data())
def test_layers_keep_their_order_and_their_relative_depth_within_a_layer(data: st.DataObject) -> None:
    layers = data.draw(st.integers(3, 12))
    base = with_values(LARGE, {"decoder.layers": layers})
    count = data.draw(st.integers(1, min(3, layers - 1)))
    space = Space(make_study(auxiliary={"count": [0, count]}).search, base)
    placement = sorted(data.draw(st.sets(st.integers(1, 3), min_size=count, max_size=count)))
    weights = [0.5 / count] * count
    recipe = space.decode(space.approximate(make_recipe(0.4, placement, weights)))
    found = recipe.loss.auxiliary
    assert len(found.placement) == count
    assert sum(found.weights) == pytest.approx(0.5)
    if count == 1:
        assert abs(found.placement[0] / layers - placement[0] / 4) <= max(0.5 / layers, 1 / layers - 0.25) + 1e-9


def test_a_recipe_of_this_study_is_its_own_nearest_point(earlier: Ledger) -> None:
    space = Space(make_study().search, SMALL)
    for _, *rest in FOUND:
        if rest[0] <= 0.6:  # type: ignore[operator]
            recipe = make_recipe(*rest)  # type: ignore[arg-type]
            assert space.approximate(recipe) == pytest.approx(space.encode(recipe))


def test_a_prior_without_a_complete_trial_and_one_that_is_missing_are_refused(tmp_path: Path) -> None:
    empty = Ledger.create_or_open(tmp_path / "new", make_study(), SMALL, {})
    with pytest.raises(UserError, match=r"search\.prior: study 's' in .*new has no complete trial; leave it out"):
        read_prior(empty, Proposer(make_study(), LARGE).class_spaces)
    with pytest.raises(UserError, match=r"search\.prior: .*nowhere"):
        open_prior(tmp_path / "nowhere")


def test_a_grid_takes_no_prior() -> None:
    with pytest.raises(ValueError, match="but a grid tries every point anyway; use tpe or random"):
        make_study(sampler="grid", prior="small")
