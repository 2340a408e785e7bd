from __future__ import annotations

import pytest
import torch

from model.network.attention import RelativeAttention, relative_position_encoding
from model.network.encoder import Encoder
from model.network.recogniser import Recogniser
from model.network.subsampling import SHORTEST_FRAMES, subsampled_length


@pytest.fixture
def model(make_recipe) -> Recogniser:
    torch.manual_seed(1)
    return Recogniser(make_recipe({"encoder.layers": 2})).eval()


def test_an_utterance_scores_the_same_alone_and_in_any_batch(model: Recogniser) -> None:
    lengths = torch.tensor([90, 47, SHORTEST_FRAMES])
    features = torch.randn(3, 130, 80)  # padding holds noise: only its length may matter
    labels = torch.tensor([[5, 6, 7, 1], [9, 1, -100, -100], [1, -100, -100, -100]])
    batch = model.encode(features, lengths)
    logits = model.classify(batch, labels.clamp_min(0))
    for row, length in enumerate(lengths.tolist()):
        alone = model.encode(features[row : row + 1, :length], lengths[row : row + 1])
        kept = int(alone.lengths[0])
        assert kept == subsampled_length(length)
        torch.testing.assert_close(batch.states[row, :kept], alone.states[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.ctc_logits[row, :kept], alone.ctc_logits[0], atol=1e-5, rtol=0)
        alone_logits = model.classify(alone, labels[row : row + 1].clamp_min(0))
        torch.testing.assert_close(logits[-1][row], alone_logits[-1][0], atol=1e-5, rtol=0)


def test_the_length_formula_is_what_the_convolutions_give(make_recipe) -> None:
    encoder = Encoder(make_recipe().encoder).eval()
    for frames in (SHORTEST_FRAMES, 8, 10, 11, 50, 131):
        states, lengths = encoder(torch.zeros(1, frames, 80), torch.tensor([frames]))
        assert states.shape[1] == int(lengths[0]) == subsampled_length(frames)
    assert subsampled_length(SHORTEST_FRAMES) == 1
    assert subsampled_length(SHORTEST_FRAMES - 1) == 0


def test_relative_attention_scores_by_the_distance_of_query_and_key() -> None:
    torch.manual_seed(0)
    frames, width, heads = 5, 8, 2
    attention = RelativeAttention(width, heads, 0.0)
    torch.nn.init.normal_(attention.content_bias)
    torch.nn.init.normal_(attention.position_bias)
    x, pe = torch.randn(1, frames, width), relative_position_encoding(frames, width, torch.device("cpu"))
    q, k, v = (f(x)[0].view(frames, heads, -1) for f in (attention.query, attention.key, attention.value))
    p = attention.position(pe).view(-1, heads, width // heads)
    scores = torch.empty(heads, frames, frames)
    for h in range(heads):
        for i in range(frames):
            for j in range(frames):
                by_content = (q[i, h] + attention.content_bias[h]) @ k[j, h]
                by_position = (q[i, h] + attention.position_bias[h]) @ p[frames - 1 - (i - j), h]
                scores[h, i, j] = (by_content + by_position) / (width // heads) ** 0.5
    expected = torch.einsum("hij,jhe->ihe", scores.softmax(-1), v).reshape(1, frames, width)
    actual = attention(x, pe, torch.ones(1, frames, dtype=torch.bool))
    torch.testing.assert_close(actual, attention.out(expected), atol=1e-6, rtol=1e-5)


def test_distance_zero_is_in_the_middle_of_the_table() -> None:
    table = relative_position_encoding(4, 6, torch.device("cpu"))
    assert table.shape == (7, 6)
    torch.testing.assert_close(table[3], torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(
        table[0, :2], torch.tensor([3.0]).sin().repeat(2).lerp(torch.tensor(3.0).cos(), torch.tensor([0.0, 1.0]))
    )


@torch.inference_mode()
def test_padding_leaks_only_where_the_recipe_asks_for_it(make_recipe) -> None:
    features = torch.randn(2, 130, 80, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([90, 47])
    changes = []
    for padding in ("invariant", "published"):
        torch.manual_seed(1)
        model = Recogniser(make_recipe({"encoder.layers": 2, "encoder.padding": padding})).eval()
        for parameter in model.parameters():  # initial weights are too small for a leak to show
            torch.nn.init.normal_(parameter, std=0.3)
        wide, narrow = (model.encode(features[:, :frames], lengths).states[1, :11] for frames in (130, 90))
        changes.append(float((wide - narrow).abs().max()))
    assert changes[0] < 1e-5 < 1e-3 < changes[1], changes
