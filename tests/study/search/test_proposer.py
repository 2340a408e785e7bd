"""A study's proposals: their order and number, and that each can be recomputed from the events before it."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
from ledger_events import start_event

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.baselines import make_baseline
from study.config.question import class_of
from study.config.study_file import StudyFile
from study.ledger.events import ControlGiven, TrialEnded, TrialEpoch, TrialPaused, TrialStarted, TrialState
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.proposal import InfeasiblePoint, Proposal
from study.search.proposer import Proposer
from study.search.space import Space

TINY = named_recipe("tiny", "speech")
METRIC = "dev/wer"
SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "startup_trials": 3}


def make_proposer(
    trials: int = 4,
    baselines: tuple[str, ...] = ("ed", "decred-paper"),
    base: Recipe = TINY,
    question: str | None = None,
    **search: Any,
) -> Proposer:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": baselines, "search": SEARCH | search}
    content["question"] = question
    return Proposer(StudyFile.model_validate(content), base)


def start(trials: Trials, proposal: Proposal) -> None:
    trials.apply(start_event(proposal))


def report(trials: Trials, number: int, epoch: int, value: float) -> None:
    trials.apply(TrialEpoch(number=number, epoch=epoch, metrics={METRIC: value}))


def end(trials: Trials, number: int, state: TrialState = TrialState.COMPLETE) -> None:
    trials.apply(TrialEnded(number=number, state=state))


def loss(proposal: Proposal) -> float:
    """Smallest at a CTC weight of 0.2 with one auxiliary classifier."""
    recipe = proposal.recipe
    return abs(recipe.loss.ctc_weight - 0.2) + abs(len(recipe.loss.auxiliary.placement) - 1)


def run_all(proposer: Proposer, trials: Trials) -> list[Proposal]:
    """All proposals, each trained to its end before the next."""
    proposals = []
    while (proposal := proposer.propose(trials)) is not None:
        assert isinstance(proposal, Proposal)
        start(trials, proposal)
        report(trials, proposal.number, 1, loss(proposal))
        end(trials, proposal.number)
        proposals.append(proposal)
    return proposals


def test_each_baseline_is_proposed_once_then_as_many_sampled_trials_as_the_budget_has() -> None:
    proposer, trials = make_proposer(), Trials()
    assert proposer.count_remaining(trials) == 6
    proposals = run_all(proposer, trials)
    assert [(proposal.number, proposal.baseline) for proposal in proposals] == [
        (0, "ed"),
        (1, "decred-paper"),
        *((number, None) for number in range(2, 6)),
    ]
    assert proposals[1].recipe == make_baseline("decred-paper", TINY)
    assert proposer.count_remaining(trials) == 0


def test_a_baseline_outside_the_space_has_no_point() -> None:
    proposals = run_all(make_proposer(3, ctc_weight={"uniform": [0.6, 0.7]}, startup_trials=1), Trials())
    assert len(proposals) == 5
    assert proposals[0].recipe.loss.ctc_weight == 0.5
    assert [proposal.point for proposal in proposals[:2]] == [{}, {}]


def test_another_seed_draws_other_recipes() -> None:
    hashes = [
        {proposal.recipe.hash for proposal in run_all(make_proposer(2, (), seed=seed), Trials())} for seed in (0, 1)
    ]
    assert not hashes[0] & hashes[1]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_extended_study_makes_the_proposals_of_a_study_that_was_longer_from_the_start(sampler: str) -> None:
    whole = run_all(make_proposer(8, sampler=sampler), Trials())
    trials = Trials()
    parts = run_all(make_proposer(3, sampler=sampler), trials) + run_all(make_proposer(8, sampler=sampler), trials)
    assert parts == whole
    assert len({proposal.recipe.hash for proposal in whole}) == len(whole)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
@pytest.mark.parametrize("seed", range(3))
def test_each_proposal_can_be_recomputed_from_the_events_before_it_with_four_concurrent_trials(
    sampler: str, seed: int
) -> None:
    """Trials report, pause, end and fail in any order, as they do with four workers."""
    search = {"sampler": sampler, "grid_points": 3}
    proposer, trials, events, generator = make_proposer(24, **search), Trials(), list[Any](), random.Random(seed)
    proposed: list[tuple[int, Proposal]] = []  # with the number of events before it

    def apply(event: Any) -> None:
        events.append(event)
        trials.apply(event)

    while len(proposed) < 26:
        if len(trials.running) < 4:
            proposal = proposer.propose(trials)
            assert isinstance(proposal, Proposal)
            proposed.append((len(events), proposal))
            apply(start_event(proposal))
            continue
        number = generator.choice(trials.running)
        if generator.random() < 0.6:
            apply(TrialEpoch(number=number, epoch=trials[number].epoch + 1, metrics={METRIC: generator.random()}))
        elif generator.random() < 0.3:
            apply(TrialPaused(number=number, epoch=trials[number].epoch))
        else:
            apply(TrialEnded(number=number, state=generator.choice([state for state in TrialState if state.final])))
    for before, proposal in proposed:
        assert make_proposer(24, **search).propose(Trials(events[:before])) == proposal


def test_every_grid_point_is_tried_once_also_over_restarts() -> None:
    small = {"sampler": "grid", "grid_points": 2, "auxiliary": {"count": [0, 1], "layers": [1, 2]}}
    trials, first = Trials(), make_proposer(5, (), **small)
    assert first.count_remaining(trials) == 5
    proposals = run_all(first, trials)
    restarted = make_proposer(100, (), **small)
    # for each CTC weight: no classifier, or 2 layers x 2 final weights
    assert restarted.count_remaining(trials) == 2 * (1 + 2 * 2) - 5
    proposals += run_all(restarted, trials)
    assert len({proposal.recipe.hash for proposal in proposals}) == len(proposals) == 10


@pytest.mark.parametrize("question", ["none", "decred against ed"])
def test_a_grid_does_not_repeat_a_point_that_a_person_has_enqueued(question: str) -> None:
    small = {"sampler": "grid", "grid_points": 2, "auxiliary": {"count": [0, 1], "layers": [1, 2]}}
    whole = run_all(make_proposer(100, (), question=question, **small), Trials())
    trials, proposer = Trials(), make_proposer(100, (), question=question, **small)
    enqueued = whole[3].recipe
    trials.apply(ControlGiven(who="ada", command="enqueue", value=enqueued.model_dump_json(), id="a"))
    first = proposer.propose(trials)
    assert isinstance(first, Proposal)
    assert (first.recipe, first.point) == (enqueued, whole[3].point)
    trials.apply(start_event(first).model_copy(update={"enqueued": "a", "enqueued_by": "ada"}))
    assert proposer.count_remaining(trials) == len(whole) - 1
    others = [proposal.recipe.hash for proposal in run_all(proposer, trials)]
    assert others == [proposal.recipe.hash for proposal in whole if proposal.recipe.hash != enqueued.hash]


@pytest.mark.parametrize("question", ["decred against ed", "interctc against ed"])
def test_the_classes_take_turns_on_their_grids_as_long_as_both_have_points(question: str) -> None:
    small = {"sampler": "grid", "grid_points": 4, "auxiliary": {"count": [0, 1], "layers": [1, 2]}}
    proposer = make_proposer(8, (), question=question, **small)
    classes = [class_of(proposal.recipe) for proposal in run_all(proposer, Trials())]
    first, second = question.split(" against ")
    assert classes == [first, second] * 4
    whole = run_all(make_proposer(100, (), question=question, **small), Trials())
    assert len({proposal.recipe.hash for proposal in whole}) == len(whole)
    assert sum(class_of(proposal.recipe) == "ed" for proposal in whole) == 4  # CTC weights


def test_tpe_finds_a_planted_optimum_better_than_random_sampling() -> None:
    def mean_of_last(sampler: str) -> float:
        last = [
            run_all(make_proposer(24, (), question="none", sampler=sampler, seed=seed), Trials())[-6:]
            for seed in range(5)
        ]
        return sum(loss(proposal) for proposals in last for proposal in proposals) / (6 * 5)

    assert mean_of_last("tpe") < 0.7 * mean_of_last("random")


def test_tpe_learns_from_paused_trials_as_from_pruned_ones() -> None:
    waiting, stopped = Trials(), Trials()
    proposer = make_proposer(12, (), seed=3)
    for _ in range(12):
        proposal = proposer.propose(waiting)
        assert isinstance(proposal, Proposal)
        assert make_proposer(12, (), seed=3).propose(stopped) == proposal
        for trials in (waiting, stopped):
            start(trials, proposal)
            report(trials, proposal.number, 1, loss(proposal))
        waiting.apply(TrialPaused(number=proposal.number, epoch=1))
        end(stopped, proposal.number, TrialState.PRUNED)


def test_to_tpe_a_paused_trial_without_a_value_is_a_running_one() -> None:
    proposer, trials, other = make_proposer(12, ()), Trials(), Trials()
    for _ in range(5):
        proposal = proposer.propose(trials)
        assert isinstance(proposal, Proposal)
        start(trials, proposal)
        start(other, proposal)
        trials.apply(TrialPaused(number=proposal.number, epoch=1))
    assert proposer.propose(trials) == make_proposer(12, ()).propose(other)


def test_a_point_that_decodes_to_no_recipe_takes_a_number_and_counts_towards_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(space: Space, point: Any) -> Recipe:
        raise UserError("heads 3 do not divide width 128")

    proposer, trials = make_proposer(3, ()), Trials()
    with monkeypatch.context() as patched:
        patched.setattr(Space, "decode", refuse)
        point = proposer.propose(trials)
    assert isinstance(point, InfeasiblePoint)
    assert (point.number, point.reason) == (0, "heads 3 do not divide width 128")
    assert set(point.values) >= {"ctc_weight"}
    trials.apply(TrialEnded(number=0, state=TrialState.INFEASIBLE, values=point.values, point=point.point))
    assert proposer.count_remaining(trials) == 2
    assert [proposal.number for proposal in run_all(proposer, trials)] == [1, 2]


def test_a_trial_that_continues_uses_the_new_path_of_a_corpus_that_moved() -> None:
    moved = make_proposer(base=with_values(TINY, {"data.corpus": "/elsewhere"}))
    proposal = moved.restore(TrialRecord(3, baseline="ed", point={"ctc_weight": 0.3}), make_baseline("ed", TINY))
    assert (proposal.number, proposal.baseline, proposal.point) == (3, "ed", {"ctc_weight": 0.3})
    assert proposal.recipe == make_baseline("ed", with_values(TINY, {"data.corpus": "/elsewhere"}))


def test_a_trial_that_was_recorded_without_a_point_gets_it_from_its_recipe() -> None:
    """Versions before 0.2 did not record the points of imported trials."""
    recipes: dict[int, Recipe] = {}
    trials, without = Trials(), Trials()
    proposer = make_proposer(8, ())
    study = StudyFile.model_validate({"name": "s", "corpus": "speech", "trials": 8, "baselines": [], "search": SEARCH})
    for proposal in run_all(make_proposer(5, ()), trials):
        recipes[proposal.number] = proposal.recipe
        start(without, Proposal(proposal.number, proposal.recipe, proposal.values))
        name = class_of(proposal.recipe)
        without.apply(TrialStarted(number=proposal.number, recipe_hash=proposal.recipe.hash, recipe_class=name))
        report(without, proposal.number, 1, loss(proposal))
        end(without, proposal.number)
    proposal = Proposer(study, TINY, lambda record: recipes[record.number]).propose(without)
    expected = proposer.propose(trials)
    assert isinstance(proposal, Proposal)
    assert isinstance(expected, Proposal)
    assert proposal.point.keys() == expected.point.keys()
    assert all(value == pytest.approx(proposal.point[name]) for name, value in expected.point.items())


def test_optuna_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_all(make_proposer(4), Trials())
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
