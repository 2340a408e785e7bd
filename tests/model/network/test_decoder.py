from __future__ import annotations

import itertools

import pytest
import torch

from model.network.kv_cache import CACHE_TOKENS
from model.network.recogniser import Recogniser, shift_right

LAYERS = 4
PLACEMENTS = [
    chosen for size in range(LAYERS) for chosen in itertools.combinations(range(1, LAYERS), size)
]  # every subset of the layers below the last


def build(make_recipe, placement: tuple[int, ...]) -> Recogniser:
    torch.manual_seed(3)
    weights = [0.6 / max(len(placement), 1)] * len(placement)
    return Recogniser(make_recipe({"loss.auxiliary": {"placement": placement, "weights": weights}})).eval()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_auxiliary_classifiers_read_their_layer_at_every_placement(make_recipe, placement: tuple[int, ...]) -> None:
    model = build(make_recipe, placement)
    features, lengths = torch.randn(2, 60, 80), torch.tensor([60, 41])
    labels = torch.tensor([[5, 6, 1], [7, 1, -100]])
    encoded = model.encode(features, lengths)
    logits = model.classify(encoded, shift_right(labels))
    outputs = model.decoder.layer_outputs(shift_right(labels), model.prepare_memory(encoded))
    assert len(logits) == len(placement) + 1
    for layer, head, scores in zip(placement, model.decoder.auxiliary, logits, strict=False):
        torch.testing.assert_close(scores, head(outputs[layer - 1]))
    torch.testing.assert_close(logits[-1], model.decoder.final(outputs[-1]))
    losses = model.loss(features, lengths, labels)
    losses.total.backward()
    for head in model.decoder.auxiliary:
        assert head.weight.grad is not None
        assert head.weight.grad.abs().sum() > 0
    weights = [0.6 / max(len(placement), 1)] * len(placement)
    expected = torch.tensor([*weights, 1.0 - sum(weights)]) @ losses.per_classifier
    torch.testing.assert_close(losses.attention, expected)


def test_auxiliary_classifiers_cost_nothing_at_inference(make_recipe) -> None:
    model = build(make_recipe, (1, 3))

    def fail(*_: object) -> None:
        raise AssertionError("an auxiliary classifier was evaluated")

    for head in model.decoder.auxiliary:
        head.register_forward_pre_hook(fail)
    encoded = model.encode(torch.randn(1, 60, 80), torch.tensor([60]))
    model.decoder.final_logits(torch.tensor([[0, 5]]), model.prepare_memory(encoded))
    model.decoder.step(torch.tensor([[0]]), model.prepare_memory(encoded), model.decoder.new_caches())


def test_decoding_token_by_token_gives_the_logits_of_the_whole_sequence(make_recipe) -> None:
    model = build(make_recipe, (2,))
    encoded = model.encode(torch.randn(2, 80, 80), torch.tensor([80, 33]))
    memory = model.prepare_memory(encoded)
    tokens = torch.randint(40, (2, 2, CACHE_TOKENS + 2))  # (B, K, U), more than a new cache has room for
    caches = model.decoder.new_caches()
    for position in range(tokens.shape[2]):
        logits = model.decoder.step(tokens[..., position], memory, caches)
        for beam in range(2):
            whole = model.decoder.final_logits(tokens[:, beam, : position + 1], memory)
            torch.testing.assert_close(logits[:, beam], whole[:, -1], atol=1e-5, rtol=1e-5)


def test_decoder_input_starts_with_bos_and_pads_ignored_labels() -> None:
    labels = torch.tensor([[5, -100, 6, 1], [7, 1, -100, -100]])
    assert shift_right(labels).tolist() == [[0, 5, 3, 6], [0, 7, 1, 3]]
