"""Laws of decoding, against the enumeration of all hypotheses of at most four tokens, out of four."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from decoding_enumeration import SPECIAL, RandomLm, RandomModel, Scores
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.decoding.beam_search import Hypothesis, beam_search
from model.decoding.fusion import Fusion


@dataclass(frozen=True)
class Case:
    """What is decoded, and how; `max_length` counts bos, None allows a token for each frame and eos."""

    seed: int
    frames: int
    extra_blank: bool
    max_length: int | None
    ctc_weight: float
    length_penalty: float
    lm_weight: float = 0.0
    ilm_weight: float = 0.0

    @property
    def longest(self) -> int:
        return self.max_length - 1 if self.max_length else self.frames + 1

    @property
    def model(self) -> RandomModel:
        return RandomModel(self.seed, self.frames, self.extra_blank)

    @property
    def fusion(self) -> list[tuple[float, RandomLm]]:
        terms = [(self.lm_weight, RandomLm(1)), (-self.ilm_weight, RandomLm(2))]
        return [(weight, lm) for weight, lm in terms if weight]

    def scores(self, model: RandomModel) -> Scores:
        return Scores(model, self.ctc_weight, self.length_penalty, self.fusion)

    def search(self, model: RandomModel, beam: int) -> list[Hypothesis]:
        decode: Any = beam_search  # a RandomModel stands in for a Recogniser
        settings = beam, self.ctc_weight, self.max_length, self.length_penalty
        (nbest,) = decode(model, model.encoded, *settings, fusion=Fusion(self.fusion) if self.fusion else None)
        return nbest


cases = st.builds(
    Case,
    seed=st.integers(0, 10_000),
    frames=st.integers(1, 5),
    extra_blank=st.booleans(),
    max_length=st.integers(2, 5) | st.none(),
    ctc_weight=st.just(0.0) | st.floats(0.0, 1.0, exclude_max=True),
    length_penalty=st.floats(-1.0, 3.0),
    lm_weight=st.just(0.0) | st.floats(0.0, 2.0),
    ilm_weight=st.just(0.0) | st.floats(0.0, 1.0),
).filter(lambda case: case.longest <= 4)


@settings(max_examples=60, deadline=None)
@given(cases)
@example(Case(0, 1, True, None, 1e-9, 1.0))  # one frame: of most hypotheses CTC gives 0, however little it weighs
@example(Case(0, 5, True, 5, 1 - 1e-9, 1.0))
@example(Case(0, 5, False, 5, 0.0, 0.0))
def test_a_beam_as_wide_as_the_enumeration_ranks_all_hypotheses_by_the_documented_score(case: Case) -> None:
    model = case.model
    scores = case.scores(model)
    expected = scores.ranking(case.longest)
    nbest = case.search(model, beam=len(list(scores.hypotheses(case.longest))))
    assert [hypothesis.score for hypothesis in nbest] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert {tuple(hypothesis.tokens) for hypothesis in nbest} == {tokens for _, tokens in expected}
    assert scores.score(tuple(nbest[0].tokens)) == pytest.approx(expected[0][0], abs=1e-4), "the best comes first"


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 6))
def test_every_hypothesis_of_a_narrow_beam_has_the_documented_score(case: Case, beam: int) -> None:
    model = case.model
    scores = case.scores(model)
    nbest = case.search(model, beam)
    assert len(nbest) <= beam
    assert nbest == sorted(nbest, key=lambda hypothesis: -hypothesis.score)
    for tokens, score in nbest:
        expected = scores.score(tuple(tokens))
        if expected > -math.inf:
            assert score == pytest.approx(expected, abs=1e-4)
        else:
            assert len(nbest) == 1, "an impossible hypothesis is given only where the search met no other"


def plain_beam_search(case: Case, scores: Scores, beam: int) -> list[float]:
    """The scores of a beam search without batches, caches or tensors; possible hypotheses alone."""
    running: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    finished: list[float] = []
    for length in range(1, case.longest + 1):
        candidates = [
            ((*tokens, token), total + scores.gain((*tokens, token)))
            for tokens, total in running
            for token in scores.allowed
        ]
        candidates = sorted((pair for pair in candidates if pair[1] > -math.inf), key=lambda pair: -pair[1])
        if not candidates:
            break
        running = [(tokens, total) for tokens, total in candidates if tokens[-1] != SPECIAL.eos][:beam]
        ended = [total for tokens, total in candidates[:beam] if tokens[-1] == SPECIAL.eos]
        if length == case.longest:
            ended += [total for _, total in running]
        normaliser = length**case.length_penalty
        finished = sorted([*finished, *(total / normaliser for total in ended)], reverse=True)[:beam]
        if len(finished) == beam and (beam == 1 or finished[-1] >= candidates[0][1] / normaliser):
            break
    return finished


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 6))
def test_a_narrow_beam_finds_what_a_plain_beam_search_finds(case: Case, beam: int) -> None:
    model = case.model
    expected = plain_beam_search(case, case.scores(model), beam)
    nbest = case.search(model, beam)
    if expected:
        assert [hypothesis.score for hypothesis in nbest] == pytest.approx(expected, abs=1e-4)
    else:
        assert len(nbest) == 1, "an impossible hypothesis"


@settings(max_examples=60, deadline=None)
@given(cases)
def test_a_beam_of_one_takes_the_best_token_at_every_step_until_eos_or_the_limit(case: Case) -> None:
    model = case.model
    scores = case.scores(model)
    ((tokens, _),) = case.search(model, beam=1)
    for length, token in enumerate(tokens, start=1):
        before = tuple(tokens[: length - 1])
        best = max(scores.gain((*before, other)) for other in scores.allowed)
        if best == -math.inf:  # no token is possible, so any may be taken
            return
        assert scores.gain((*before, token)) == pytest.approx(best, abs=1e-4)
    assert SPECIAL.eos not in tokens[:-1]
    assert tokens[-1] == SPECIAL.eos or len(tokens) == case.longest
