"""The best candidates, found by bounds or among all, are the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.decoding import ctc_candidates
from model.decoding.ctc_candidates import CtcCandidates
from model.network.recogniser import EncoderOutput
from model.recipe.architecture import SpecialTokens

UTTERANCES, BEAM, FRAMES, VOCABULARY = 2, 3, 20, 60
COUNT = 2 * BEAM


def candidates(seed: int, spread: float, weight: float, frames: int = FRAMES // 2) -> tuple[CtcCandidates, Tensor]:
    """After two tokens of each hypothesis, with the attention's part of the next sums (U, K, V)."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(UTTERANCES, FRAMES, VOCABULARY + 1, generator=generator)
    model = SimpleNamespace(blank=VOCABULARY, vocabulary=VOCABULARY, special=SpecialTokens())
    encoded = EncoderOutput(torch.zeros(UTTERANCES, FRAMES, 1), torch.tensor([FRAMES, frames]), logits)
    found = CtcCandidates(model, encoded, BEAM, weight)  # type: ignore[arg-type]
    for _ in range(2):
        tokens = torch.randint(VOCABULARY, (UTTERANCES * BEAM,), generator=generator)
        found.extend(torch.arange(UTTERANCES * BEAM), tokens)
    attention = (spread * torch.randn(UTTERANCES, BEAM, VOCABULARY, generator=generator)).log_softmax(dim=-1)
    return found, (1 - weight) * attention


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 8.0), st.floats(0.05, 0.95), st.sampled_from([COUNT, COUNT + 8]))
def test_what_the_bounds_find_are_the_best_of_all(seed: int, spread: float, weight: float, scored: int) -> None:
    search, others = candidates(seed, spread, weight)
    others[..., search._excluded] = ctc_candidates.IMPOSSIBLE
    found = search._best_by_bounds(others, COUNT, scored)
    gains = search._scorer.gains(search._state)[:, :VOCABULARY].view_as(others)
    expected = search._add(others, gains).flatten(1).topk(COUNT, dim=1)
    if found is not None:
        torch.testing.assert_close(found[0], expected.values)
        torch.testing.assert_close(others.flatten(1).gather(1, found[1]), others.flatten(1).gather(1, expected.indices))


def test_bounds_suffice_whatever_the_spread_of_the_scores() -> None:
    for spread in (0.01, 1.0, 6.0):
        for seed in range(20):
            search, others = candidates(seed, spread, 0.3)
            assert search._best_by_bounds(others, COUNT, COUNT + 8) is not None


def test_where_bounds_do_not_suffice_all_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    search, others = candidates(0, 1.0, 0.5, frames=2)  # no third token is possible in the second utterance
    assert search._best_by_bounds(others.clone(), COUNT, COUNT + 8) is None
    expected = search.best(others.clone(), COUNT)
    monkeypatch.setattr(ctc_candidates, "MORE", others[0].numel())  # the bounds are not tried
    torch.testing.assert_close(search.best(others.clone(), COUNT), expected)
    assert (expected[1][0] % VOCABULARY != SpecialTokens().pad).all()
