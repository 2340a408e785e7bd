from __future__ import annotations

import pytest
import torch
from decoding_enumeration import prefix_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding.ctc_prefix_score import CtcPrefixScorer

BLANK, CLASSES = 3, 4
UTTERANCES, HYPOTHESES, FRAMES = 2, 3, 5


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    frames=st.lists(st.integers(1, FRAMES), min_size=UTTERANCES, max_size=UTTERANCES),
    steps=st.lists(st.tuples(*[st.integers(0, BLANK - 1)] * UTTERANCES * HYPOTHESES), max_size=3),
)
def test_prefix_scores_of_every_hypothesis_are_the_sum_over_all_alignments(
    seed: int, frames: list[int], steps: list[tuple[int, ...]]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(UTTERANCES, FRAMES, CLASSES, generator=generator, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)
    scorer = CtcPrefixScorer(log_probs, torch.tensor(frames), BLANK, HYPOTHESES)
    state, rows = scorer.start(), torch.arange(UTTERANCES * HYPOTHESES)
    for tokens in steps:  # one more token of each hypothesis
        state = scorer.extend(state, torch.tensor(tokens), scorer.scores(state)[rows, torch.tensor(tokens)])
    scores = scorer.scores(state)
    assert not scores.isnan().any()
    for row in range(UTTERANCES * HYPOTHESES):
        utterance = row // HYPOTHESES
        psi = prefix_probabilities(log_probs[utterance, : frames[utterance]].exp().tolist(), BLANK)
        prefix = tuple(tokens[row] for tokens in steps)
        for token in range(BLANK):
            expected = psi.get((*prefix, token), 0.0)
            assert float(scores[row, token].exp()) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_selected_states_continue_the_hypotheses_that_they_were() -> None:
    log_probs = torch.randn(1, FRAMES, CLASSES, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    scorer = CtcPrefixScorer(log_probs, torch.tensor([FRAMES]), BLANK, 3)
    tokens, rows = torch.tensor([0, 1, 2]), torch.tensor([2, 0, 2])
    state = scorer.start()
    state = scorer.extend(state, tokens, scorer.scores(state)[torch.arange(3), tokens])
    torch.testing.assert_close(scorer.scores(state.select(rows)), scorer.scores(state)[rows])


def test_a_prefix_longer_than_its_frames_is_impossible() -> None:
    log_probs = torch.randn(1, 2, CLASSES).log_softmax(-1)
    scorer = CtcPrefixScorer(log_probs, torch.tensor([2]), BLANK)
    state = scorer.start()
    for token in (0, 0):  # equal neighbours need a blank between: three frames
        state = scorer.extend(state, torch.tensor([token]), scorer.scores(state)[:, token])
    assert torch.isneginf(scorer.scores(state)).all()
