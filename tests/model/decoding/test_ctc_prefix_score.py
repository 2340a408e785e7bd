from __future__ import annotations

import math

import pytest
import torch
from decoding_enumeration import prefix_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decoding.ctc_prefix_score import CtcPrefixScorer, CtcPrefixState

BLANK, CLASSES = 3, 4
UTTERANCES, HYPOTHESES, FRAMES = 2, 3, 5


SEEDS = st.integers(0, 10_000)
FRAME_COUNTS = st.lists(st.integers(1, FRAMES), min_size=UTTERANCES, max_size=UTTERANCES)
STEPS = st.lists(st.tuples(*[st.integers(0, BLANK - 1)] * UTTERANCES * HYPOTHESES), max_size=3)


def extend_by(
    seed: int, frames: list[int], steps: list[tuple[int, ...]]
) -> tuple[torch.Tensor, CtcPrefixScorer, CtcPrefixState]:
    """Random log-probabilities, their scorer, and its state after one more token of each hypothesis in each step."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(UTTERANCES, FRAMES, CLASSES, generator=generator, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)
    scorer = CtcPrefixScorer(log_probs, torch.tensor(frames), BLANK, HYPOTHESES)
    state = scorer.start()
    for tokens in steps:
        state = scorer.extend(state, torch.tensor(tokens))
    return log_probs, scorer, state


@settings(max_examples=30, deadline=None)
@given(SEEDS, FRAME_COUNTS, STEPS)
def test_prefix_scores_of_every_hypothesis_are_the_sum_over_all_alignments(
    seed: int, frames: list[int], steps: list[tuple[int, ...]]
) -> None:
    log_probs, scorer, state = extend_by(seed, frames, steps)
    scores = (scorer.gains(state) + state.score[:, None]).nan_to_num(
        nan=-math.inf, neginf=-math.inf
    )  # after an impossible prefix
    for row in range(UTTERANCES * HYPOTHESES):
        utterance = row // HYPOTHESES
        psi = prefix_probabilities(log_probs[utterance, : frames[utterance]].exp().tolist(), BLANK)
        prefix = tuple(tokens[row] for tokens in steps)
        for token in range(BLANK):
            expected = psi.get((*prefix, token), 0.0)
            assert float(scores[row, token].exp()) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(SEEDS, FRAME_COUNTS, STEPS)
def test_the_gains_of_pairs_are_those_among_all(seed: int, frames: list[int], steps: list[tuple[int, ...]]) -> None:
    _, scorer, state = extend_by(seed, frames, steps)
    rows = torch.arange(UTTERANCES * HYPOTHESES).repeat_interleave(BLANK)
    tokens = torch.arange(BLANK).repeat(UTTERANCES * HYPOTHESES)
    pairs = scorer.gains_of_pairs(state, rows, tokens)
    torch.testing.assert_close(pairs, scorer.gains(state)[rows, tokens], equal_nan=True)


@settings(max_examples=50, deadline=None)
@given(SEEDS, FRAME_COUNTS, STEPS)
def test_no_gain_is_above_its_bound(seed: int, frames: list[int], steps: list[tuple[int, ...]]) -> None:
    _, scorer, state = extend_by(seed, frames, steps)
    gains = scorer.gains(state)[:, :BLANK].nan_to_num(nan=-math.inf, neginf=-math.inf)
    bounds = scorer.bounds(state)[:, :BLANK]
    assert (gains <= bounds).all()
    is_repeated = torch.arange(BLANK) == state.last[:, None]
    close = (bounds <= gains.clamp_min(-30) + 1e-3) | is_repeated | torch.isneginf(state.score)[:, None]
    assert close.all(), "and they are hardly higher, but for a token that needs a blank first"


@settings(max_examples=30, deadline=None)
@given(SEEDS, FRAME_COUNTS, STEPS)
def test_an_extended_state_has_the_score_of_its_last_token(
    seed: int, frames: list[int], steps: list[tuple[int, ...]]
) -> None:
    _, scorer, state = extend_by(seed, frames, steps)
    tokens = torch.arange(UTTERANCES * HYPOTHESES) % BLANK
    expected = scorer.gains(state)[torch.arange(len(tokens)), tokens] + state.score
    torch.testing.assert_close(scorer.extend(state, tokens).score, expected.nan_to_num(nan=-math.inf, neginf=-math.inf))


def test_selected_states_continue_the_hypotheses_that_they_were() -> None:
    log_probs = torch.randn(1, FRAMES, CLASSES, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    scorer = CtcPrefixScorer(log_probs, torch.tensor([FRAMES]), BLANK, 3)
    tokens, rows = torch.tensor([0, 1, 2]), torch.tensor([2, 0, 2])
    state = scorer.extend(scorer.start(), tokens)
    torch.testing.assert_close(scorer.gains(state.select(rows)), scorer.gains(state)[rows])


def test_a_prefix_longer_than_its_frames_is_impossible() -> None:
    log_probs = torch.randn(1, 2, CLASSES).log_softmax(-1)
    scorer = CtcPrefixScorer(log_probs, torch.tensor([2]), BLANK)
    state = scorer.extend(scorer.start(), torch.tensor([0]))
    assert torch.isneginf(scorer.gains(state)[:, 0]).all(), "equal neighbours need a blank between: three frames"
    state = scorer.extend(state, torch.tensor([0]))
    assert torch.isneginf(state.score).all()
