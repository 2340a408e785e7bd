from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from decoding_enumeration import SPECIAL, RandomModel
from hypothesis import given
from hypothesis import strategies as st

from model.data.utterances import learn_tokens_per_second
from model.decoding.beam_search import beam_search
from model.decoding.length_limit import find_limits, resolve_tokens_per_second
from model.network.subsampling import subsampled_length

RATES = st.none() | st.floats(0.01, 1000.0)
decode: Any = beam_search  # a RandomModel stands in for a Recogniser


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=5), RATES)
def test_a_limit_is_at_least_a_token_and_at_most_one_for_each_encoder_frame_and_eos(
    frames: list[int], rate: float | None
) -> None:
    limits = find_limits(frames, rate)
    assert len(limits) == len(frames)
    assert all(2 <= limit <= count + 1 for limit, count in zip(limits, frames, strict=True))
    if rate is None:
        assert limits == [count + 1 for count in frames]


@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_a_limit_grows_with_the_audio_and_with_the_rate(frames: int, others: int, rate: float, other: float) -> None:
    short, long = find_limits(sorted((frames, others)), rate)
    assert short <= long
    assert find_limits([frames], min(rate, other)) <= find_limits([frames], max(rate, other))


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(16, 3000)), min_size=1, max_size=8))
def test_the_learnt_limit_lets_every_training_utterance_through(pairs: list[tuple[int, int]]) -> None:
    alignable = [(tokens, frames) for tokens, frames in pairs if tokens <= subsampled_length(frames)]
    if alignable:
        rate = learn_tokens_per_second(*np.array(alignable).T)
        for tokens, frames in alignable:
            assert find_limits([subsampled_length(frames)], rate)[0] >= tokens


def test_the_learnt_rate_is_a_quarter_above_the_densest_utterance() -> None:
    assert learn_tokens_per_second(np.array([10, 8, 1]), np.array([500, 200, 100])) == pytest.approx(1.25 * 4)


def test_a_recipe_takes_the_learnt_rate_another_one_or_none() -> None:
    assert resolve_tokens_per_second("learnt", 4.0) == 4.0
    assert resolve_tokens_per_second("learnt", None) is None, "a published checkpoint has learnt none"
    assert resolve_tokens_per_second(3, 4.0) == 3.0
    assert resolve_tokens_per_second("none", 4.0) is None


@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_that_never_says_eos_is_stopped_at_the_limit(beam: int) -> None:
    model = RandomModel(0, 20, extra_blank=True)

    def step_without_eos(*arguments, step=model.decoder.step) -> torch.Tensor:
        logits = step(*arguments)
        logits[..., SPECIAL.eos] = -100.0
        return logits

    model.decoder.step = step_without_eos
    for rate, limit in ((2.5, 7), (5.0, 9), (None, 21)):
        (nbest,) = decode(model, model.encoded, beam, 0.0, None, tokens_per_second=rate)
        assert {len(hypothesis.tokens) for hypothesis in nbest} == {limit}, "0.8 s of audio, and five tokens more"
