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
from study.config.search_settings import Dimension, SearchSettings
from study.config.study_file import StudyFile
from study.ledger.event_lines import from_line, to_line
from study.ledger.events import PriorRead, TrialEnded, TrialEpoch, TrialState
from study.ledger.ledger import Ledger
from study.ledger.trials import Trials
from study.search.prior import draw_near, read_prior
from study.search.proposal import Proposal
from study.search.proposer import Proposer
from study.search.quantity import Point, make_quantity
from study.search.space import Space

SMALL, LARGE = named_recipe("tiny", "speech"), named_recipe("base", "speech")  # four decoder layers, and eight
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


def read(earlier: Ledger, study: StudyFile, base: Recipe = LARGE) -> PriorRead:
    return read_prior(str(earlier.folder), Proposer(study, base).class_spaces)


def test_the_best_of_each_class_are_tried_first_at_the_same_relative_depth_within_this_studys_ranges(
    earlier: Ledger,
) -> None:
    study = make_study()
    prior = read(earlier, study)
    assert [(one.recipe_class, one.trial) for one in prior.found] == [
        *[("decred", number) for number in (1, 2, 4)],
        *[("ed", number) for number in (3, 0)],
    ]
    first = propose_all(study, Trials([prior]))[:4]
    layers = LARGE.decoder.layers
    assert [describe(one) for one in first] == [
        (0.4, (3 * layers // 4,), (0.4,)),
        (0.5, (), ()),
        (0.6, (layers // 4, 3 * layers // 4), (0.2, 0.3)),  # a CTC weight of 0.9 is outside
        (0.3, (), ()),
    ]


def test_proposals_need_the_earlier_study_no_more_once_its_findings_are_recorded(earlier: Ledger) -> None:
    study = make_study(trials=8, prior="/is/gone")
    prior = read(earlier, study)
    whole, halves = propose_all(study, Trials([prior])), Trials([prior])
    again = propose_all(make_study(trials=3, prior="/is/gone"), halves) + propose_all(study, halves)
    assert again == whole


def test_its_results_are_no_trials_of_this_study(earlier: Ledger) -> None:
    trials = Trials([read(earlier, make_study())])
    assert not trials
    assert Proposer(make_study(), LARGE).count_remaining(trials) == 20
    propose_all(make_study(), trials)
    assert min(record.metrics["dev/wer"] for record in trials.values()) >= 50.0


@pytest.mark.parametrize("question", ["none", "decred against ed"])
def test_a_sampler_that_learns_draws_near_what_was_found_the_less_the_more_it_has_seen(
    earlier: Ledger, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    near: list[int] = []

    def draw(point: Point, found: list[Point], space: Space, search: SearchSettings, number: int, tried: int) -> Point:
        drawn = draw_near(point, found, space, search, number, tried)
        near.append(drawn != point)
        return drawn

    monkeypatch.setattr("study.search.proposer.draw_near", draw)
    first, last = 0, 0
    for seed in range(3):
        near.clear()
        study = make_study(trials=60, question=question, seed=seed)
        propose_all(study, Trials([read(earlier, study)]))
        first, last = first + sum(near[:20]), last + sum(near[-20:])
    assert 10 <= first <= 30
    assert last < 0.7 * first
    near.clear()
    random_study = make_study(trials=200, question="none", sampler="random")
    propose_all(random_study, Trials([read(earlier, random_study)]))
    assert sum(near) == pytest.approx(99, abs=25), "random sampling learns nothing: always half"


def test_classifiers_near_a_point_are_nearer_than_those_at_random_and_nothing_is_excluded() -> None:
    space, generator = Space(make_study().search, LARGE), random.Random(0)
    point = space.approximate(make_recipe(0.4, [3], [0.4]))
    drawn = Counter(str(space.draw_classifiers_near(point, generator)["auxiliary.placement.1"]) for _ in range(4000))
    ordered = sorted(drawn, key=lambda layer: abs(int(layer) - 3 * LARGE.decoder.layers // 4))
    assert drawn.most_common(1)[0][0] == ordered[0]
    assert len(drawn) == LARGE.decoder.layers - 1
    assert drawn[ordered[0]] > 3 * drawn[ordered[-1]]


@given(st.data())
def test_layers_keep_their_order_weights_and_relative_depth(data: st.DataObject) -> None:
    layers = data.draw(st.integers(4, 12))
    space = Space(make_study(auxiliary={"count": [0, 3]}).search, with_values(LARGE, {"decoder.layers": layers}))
    placement = sorted(data.draw(st.sets(st.integers(1, 3), min_size=1, max_size=3)))
    weights = [0.1, 0.2, 0.15][: len(placement)]
    found = space.decode(space.approximate(make_recipe(0.4, placement, weights))).loss.auxiliary
    assert found.weights == pytest.approx(weights)
    assert list(found.placement) == sorted(set(found.placement))
    for layer, original in zip(found.placement, placement, strict=True):
        assert abs(layer / layers - original / 4) <= 0.5 / layers + 1e-9, "the nearest layer"


@pytest.mark.parametrize("seed", range(2))
def test_each_proposal_can_be_recomputed_from_the_written_events_before_it_with_four_concurrent_trials(
    earlier: Ledger, seed: int
) -> None:
    study, generator = make_study(trials=16), random.Random(seed)
    events: list[Any] = [read(earlier, study)]
    trials, proposed = Trials(events), list[tuple[int, Proposal]]()
    while (proposal := Proposer(study, LARGE).propose(trials)) is not None or trials.running:
        if proposal is not None and len(trials.running) < 4:
            assert isinstance(proposal, Proposal)
            proposed.append((len(events), proposal))
            event: Any = start_event(proposal)
        else:
            metrics = {"dev/wer": generator.random()}
            number = generator.choice(trials.running)
            event = TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics)
        events.append(event)
        trials.apply(event)
    written = [from_line(to_line(event)) for event in events]
    for before, proposal in proposed:
        assert Proposer(study, LARGE).propose(Trials(written[:before])) == proposal


@pytest.mark.parametrize(
    ("dimension", "default", "value", "expected"),
    [
        ({"choice": [1e-4, 1e-3, 4e-3]}, 1e-3, 2.5e-3, 4e-3),
        ({"uniform": [1e-4, 1e-3]}, 5e-4, 2e-3, 1e-3),
        ({"uniform": [1e-4, 1e-3]}, 5e-4, None, 5e-4),
    ],
)
def test_a_value_that_this_search_does_not_hold_becomes_the_nearest_one(
    dimension: dict[str, Any], default: float, value: float | None, expected: float
) -> None:
    key = "optimiser.learning_rate"
    quantity = make_quantity(key, key, Dimension.model_validate(dimension), SMALL)
    assert quantity.decode(quantity.approximate(value, default)) == expected


def test_a_recipe_of_this_study_is_its_own_nearest_point(earlier: Ledger) -> None:
    space = Space(make_study().search, SMALL)
    for _, *rest in FOUND:
        if rest[0] <= 0.6:  # type: ignore[operator]
            recipe = make_recipe(*rest)  # type: ignore[arg-type]
            assert space.approximate(recipe) == pytest.approx(space.encode(recipe))


def test_a_prior_without_a_complete_trial_of_the_classes_and_one_that_is_missing_are_refused(
    tmp_path: Path, earlier: Ledger
) -> None:
    empty = Ledger.create_or_open(tmp_path / "new", make_study(), SMALL, {})
    with pytest.raises(
        UserError, match=r"search\.prior: study 's' in .*new has no complete trial of the class decred or"
    ):
        read(empty, make_study())
    with pytest.raises(UserError, match=r"search\.prior: study 's' in .*new has no complete trial; leave the key out"):
        read(empty, make_study(question="none"))
    with pytest.raises(UserError, match=r"search\.prior: .*nowhere"):
        read_prior(str(tmp_path / "nowhere"), {})


def test_a_grid_takes_no_prior() -> None:
    with pytest.raises(ValueError, match="but a grid tries every point anyway; use tpe or random"):
        make_study(sampler="grid", prior="small")
