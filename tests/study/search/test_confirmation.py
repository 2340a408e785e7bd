"""Classes take turns in the search; then the best of each is trained again with new seeds, the same for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_events import start_event

from model.errors import UserError
from model.evaluation.decoding_search import list_stages
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from model.strict import validate
from study.config.question import class_of
from study.config.study_file import StudyFile
from study.ledger.events import (
    FinalistsChosen,
    TrialDecoded,
    TrialDecodingSearched,
    TrialEnded,
    TrialEpoch,
    TrialState,
)
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.confirmation import make_confirmation, take_decoding
from study.search.proposal import Proposal
from study.search.proposer import Proposer

TINY = named_recipe("tiny", "/speech")
CONTENT = {
    "name": "s",
    "corpus": "/speech",
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}},
    "trials": 6,
}


class SearchedStudy:
    """A study whose trials end at once, with a WER that the CTC weight decides."""

    def __init__(self, **changes: Any) -> None:
        self.file, self.base = StudyFile.model_validate(CONTENT | changes), TINY
        self.recipes: dict[int, Recipe] = {}
        self.trials = Trials()
        self.proposer = self.make_proposer()

    def make_proposer(self) -> Proposer:
        return Proposer(self.file, self.base, lambda record: self.recipes[record.number])

    def train(self, proposal: Proposal, state: TrialState = TrialState.COMPLETE, stages: int = 2) -> None:
        number, recipe = proposal.number, proposal.recipe
        self.recipes[number] = recipe
        wer = 100 * recipe.loss.ctc_weight
        self.trials.apply(start_event(proposal))
        self.trials.apply(TrialEpoch(number=number, epoch=1, metrics={"dev/wer": wer}))
        names = ("start", "CTC weight 0.5", "beam 4")[:stages]
        self.record_search(number, names)
        self.trials.apply(TrialEnded(number=number, state=state, metrics={"dev/wer": wer, "dev/wer_final": wer}))

    def decode(self, base: Recipe) -> None:
        """All trials as `decode` leaves them with the study's new base recipe."""
        self.base = base
        self.proposer = self.make_proposer()
        for number in self.trials:
            self.record_search(number, list_stages(base.decoding_search))
            self.trials.apply(TrialDecoded(number=number, decoding={}, decoding_hash=""))

    def record_search(self, number: int, stages: Sequence[str]) -> None:
        found = tuple({"stage": name, "metrics": self.trials[number].metrics} for name in stages)
        self.trials.apply(TrialDecodingSearched(number=number, decoding={"beam": 1}, stages=found))

    def search(self, **options: Any) -> list[Proposal]:
        proposals = []
        while isinstance(proposal := self.proposer.propose(self.trials), Proposal):
            self.train(proposal, **options)
            proposals.append(proposal)
        return proposals

    def confirm(self, state: TrialState = TrialState.COMPLETE) -> list[Proposal]:
        """Train all confirmations; the selection is recorded where it comes."""
        proposals = []
        while (given := self.proposer.confirm(self.trials)) is not None:
            if isinstance(given, FinalistsChosen):
                self.trials.apply(given)
            else:
                assert given == self.make_proposer().confirm(self.trials), "it can be recomputed"
                self.train(given, state)
                proposals.append(given)
        return proposals


def test_both_classes_get_equal_shares_of_the_proposals() -> None:
    study = SearchedStudy(trials=10)
    sampled = [proposal for proposal in study.search() if proposal.baseline is None]
    assert Counter(class_of(proposal.recipe) for proposal in sampled) == {"decred": 5, "ed": 5}
    assert [class_of(proposal.recipe) for proposal in sampled[:2]] == ["decred", "ed"]
    for proposal in sampled:
        assert (proposal.point["auxiliary.count"] == 0) == (class_of(proposal.recipe) == "ed")
        assert "ctc_weight" in proposal.point, "both search the same other quantities"


def test_the_classes_of_another_question_take_turns_too() -> None:
    study = SearchedStudy(question="interctc against ed", trials=4, baselines=["interctc"])
    classes = [class_of(proposal.recipe) for proposal in study.search()]
    assert classes == ["interctc", "interctc", "ed", "interctc", "ed"]
    assert all(proposal.recipe.loss.inter_ctc.layers for proposal in study.confirm() if proposal.confirms == 0)


def test_without_a_question_nothing_is_confirmed_and_the_sampler_chooses_the_count() -> None:
    study = SearchedStudy(question="none", trials=12)
    assert len({class_of(proposal.recipe) for proposal in study.search() if proposal.baseline is None}) == 2
    assert study.confirm() == []
    assert study.proposer.count_confirmations(study.trials) == 0


@pytest.mark.parametrize("finalists", [1, 2])
def test_the_best_of_each_class_are_trained_with_the_same_new_seeds(finalists: int) -> None:
    study = SearchedStudy(confirmation={"finalists": finalists, "seeds": 3})
    searched = study.search()
    assert study.proposer.count_confirmations(study.trials) == 2 * finalists * 3
    confirmations = study.confirm()
    for name in ("ed", "decred"):
        of_class = [proposal for proposal in searched if class_of(proposal.recipe) == name]
        best = sorted(of_class, key=lambda proposal: proposal.recipe.loss.ctc_weight)[:finalists]
        for finalist in best:
            seeds = [one.recipe.training.seed for one in confirmations if one.confirms == finalist.number]
            assert seeds == [1000, 1001, 1002]
    assert len(confirmations) == 2 * finalists * 3
    assert study.proposer.count_confirmations(study.trials) == 0
    seeds = [proposal.recipe.training.seed for proposal in confirmations]
    assert seeds == sorted(seeds), "seed by seed, so that whatever is done can be compared"
    assert [record.confirms for record in study.trials.values() if record.confirms is not None] == [
        proposal.confirms for proposal in confirmations
    ]


def test_a_confirmation_that_failed_is_not_tried_with_another_seed() -> None:
    study = SearchedStudy()
    study.search()
    assert len(study.confirm(TrialState.FAILED)) == 6
    assert study.confirm() == []


def test_without_a_complete_trial_of_a_class_nothing_is_confirmed() -> None:
    study = SearchedStudy(baselines=["ed"], trials=0, question="decred against ed")
    study.search()
    assert study.confirm() == []
    assert study.proposer.count_confirmations(study.trials) == 0


def test_a_study_that_is_extended_chooses_its_finalists_anew_and_trains_what_is_new() -> None:
    study = SearchedStudy(trials=2)
    study.search()
    before = study.confirm()
    study.file = study.file.model_copy(update={"trials": 8})
    study.proposer = study.make_proposer()
    assert study.proposer.count_confirmations(study.trials) == 6, "as many as are planned"
    study.search()
    after = study.confirm()
    assert study.trials.selection is not None
    finalists = {finalist.number for finalist in study.trials.selection.finalists}
    assert {proposal.confirms for proposal in after} == finalists - {proposal.confirms for proposal in before}


def test_confirmations_are_searched_as_far_as_every_trial_was() -> None:
    study = SearchedStudy()
    study.search(stages=2)
    recipe = study.confirm()[0].recipe
    assert recipe.decoding_search.share == 0.99
    assert recipe.decoding_search.ctc_weight == (0.5,)
    assert (recipe.decoding_search.beam, recipe.decoding_search.length_penalty) == ((), ())


STAGES = ["start", "CTC weight 0.5", "CTC weight 0.4", "language models"]
STAGES += ["mixing", "beam 4", "beam 8", "length penalty"]


@given(st.sampled_from(STAGES))
def test_a_confirmation_differs_from_its_finalist_in_seed_and_search_alone(stage: str) -> None:
    finalist = with_values(TINY, {"decoding_search.mixing": [0.3], "decoding_search.ilm_weight": [0.2]})
    recipe = make_confirmation(finalist, 1003, stage)
    changed = {"training", "decoding_search"}
    assert recipe.model_dump(exclude=changed) == TINY.model_dump(exclude=changed)
    assert recipe.decoding_search.mixing == ((0.3,) if STAGES.index(stage) >= STAGES.index("mixing") else ())
    assert recipe.decoding_search.ilm_weight == ((0.2,) if STAGES.index(stage) >= 3 else ())
    assert recipe.training == TINY.training.model_copy(update={"seed": 1003})
    beams = {"beam 4": (4,), "beam 8": (4, 8), "length penalty": (4, 8)}.get(stage, ())
    weights = {"start": (), "CTC weight 0.5": (0.5,), "CTC weight 0.4": (0.4, 0.5, 0.6)}
    assert recipe.decoding_search.beam == beams
    assert recipe.decoding_search.ctc_weight == weights.get(stage, TINY.decoding_search.ctc_weight)


WEIGHTS = TINY.decoding_search.ctc_weight


@pytest.mark.parametrize(
    ("settings", "stage", "weights", "beams"),
    [
        ({"beam": [16]}, "beam 8", WEIGHTS, ()),
        ({"beam": [2, 16]}, "beam 8", WEIGHTS, (2,)),
        ({"ctc_weight": [0.9, 0.45]}, "CTC weight 0.4", (0.45,), ()),
        ({}, "language models", WEIGHTS, ()),
        ({}, "mixing", WEIGHTS, ()),
        ({}, "beam of another kind", WEIGHTS, (4, 8)),
        ({}, "CTC weight unknown", WEIGHTS, (4, 8)),
    ],
)
def test_a_confirmation_without_the_stage_that_all_reached_is_searched_until_where_it_would_be(
    settings: dict[str, Any], stage: str, weights: tuple[float, ...], beams: tuple[int, ...]
) -> None:
    finalist = with_values(TINY, {f"decoding_search.{key}": value for key, value in settings.items()})
    search = make_confirmation(finalist, 1003, stage).decoding_search
    assert (search.ctc_weight, search.beam) == (weights, beams)
    assert search.length_penalty == (() if beams != (4, 8) else TINY.decoding_search.length_penalty)


def test_finalists_whose_decodings_are_searched_by_different_settings_are_confirmed() -> None:
    study = SearchedStudy()
    for proposal in study.search():
        number, beams = proposal.number, [16] if class_of(proposal.recipe) == "ed" else [4, 8]
        study.recipes[number] = with_values(proposal.recipe, {"decoding_search.beam": beams})
        study.record_search(number, list_stages(study.recipes[number].decoding_search)[:-1])
    beams = {class_of(one.recipe): one.recipe.decoding_search.beam for one in study.confirm()}
    assert beams == {"ed": (), "decred": (4, 8)}, "the best decred trial had reached beam 8, which comes before beam 16"


@pytest.mark.parametrize("searched", [False, True])
def test_after_a_decode_finalists_are_confirmed_by_its_settings_but_for_what_the_study_searches(searched: bool) -> None:
    recipe = {"recipe": {"decoding.ctc_weight": {"choice": [0.2, 0.7]}}} if searched else {}
    study = SearchedStudy(search=CONTENT["search"] | recipe)
    study.search()
    changed = {"decoding_search.ctc_weight": [0.9], "decoding_search.length_penalty": [0.4], "decoding.beam": 2}
    base = with_values(TINY, changed)
    study.decode(base)
    for proposal in study.confirm():
        decoding, search = proposal.recipe.decoding, proposal.recipe.decoding_search
        assert search == base.decoding_search.model_copy(update={"share": 0.99})
        own = study.recipes[proposal.confirms or 0].decoding
        assert decoding == base.decoding.model_copy(update={"ctc_weight": own.ctc_weight} if searched else {})


def test_settings_that_were_changed_without_a_decode_are_not_those_of_earlier_finalists() -> None:
    study = SearchedStudy()
    study.search()
    study.base = with_values(TINY, {"decoding_search.ctc_weight": [0.9], "decoding.beam": 2})
    study.proposer = study.make_proposer()
    recipe = study.confirm()[0].recipe
    assert (recipe.decoding, recipe.decoding_search.ctc_weight) == (TINY.decoding, (0.5,))


def test_settings_that_a_finalist_cannot_have_leave_it_its_own() -> None:
    classifiers = {"loss.auxiliary.placement": [1], "loss.auxiliary.weights": [0.5]}
    base = with_values(TINY, classifiers | {"decoding.mixing": [0.5, 0.5]})
    finalist = TrialRecord(0, decoding_stages=({"stage": "start"},), was_decoded=True)
    assert take_decoding(TINY, finalist, base, ()) == TINY
    assert take_decoding(with_values(TINY, classifiers), finalist, base, ()) == base


def test_a_question_that_the_search_cannot_answer_is_refused() -> None:
    content = CONTENT | {"search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
    assert StudyFile.model_validate(content).effective_question == "none"
    with pytest.raises(
        UserError,
        match=r"question is 'decred against ed', but the search tries no auxiliary classifier; give search.aux",
    ):
        validate(StudyFile, content | {"question": "decred against ed"}, "study.yaml")
