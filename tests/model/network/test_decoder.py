from __future__ import annotations

import itertools

import pytest
import torch

from model.network.recogniser import Recogniser, shifted

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
    logits = model.classify(encoded, shifted(labels))
    outputs = model.decoder.outputs(shifted(labels), model.listen(encoded))
    assert len(logits) == len(placement) + 1
    for layer, head, one in zip(placement, model.decoder.auxiliary, logits, strict=False):
        torch.testing.assert_close(one, head(outputs[layer - 1]))
    torch.testing.assert_close(logits[-1], model.decoder.final(outputs[-1]))
    losses = model.loss(features, lengths, labels)
    losses.total.backward()
    for head in model.decoder.auxiliary:
        assert head.weight.grad is not None
        assert head.weight.grad.abs().sum() > 0
    weights = [0.6 / max(len(placement), 1)] * len(placement)
    expected = sum(w * one for w, one in zip([*weights, 1 - sum(weights)], losses.per_classifier, strict=True))
    torch.testing.assert_close(losses.attention, expected)


def test_auxiliary_classifiers_cost_nothing_at_inference(make_recipe) -> None:
    model = build(make_recipe, (1, 3))

    def fail(*_: object) -> None:
        raise AssertionError("an auxiliary classifier was evaluated")

    for head in model.decoder.auxiliary:
        head.register_forward_pre_hook(fail)
    encoded = model.encode(torch.randn(1, 60, 80), torch.tensor([60]))
    model.decoder.final_logits(torch.tensor([[0, 5]]), model.listen(encoded))
    model.decoder.step(torch.tensor([[0]]), model.listen(encoded), model.decoder.start())


def test_one_token_at_a_time_gives_the_logits_of_all_at_once(make_recipe) -> None:
    model = build(make_recipe, (2,))
    encoded = model.encode(torch.randn(2, 80, 80), torch.tensor([80, 33]))
    audio = model.listen(encoded)
    tokens = torch.tensor([[[0, 5, 9, 4], [0, 7, 7, 2]], [[0, 6, 8, 8], [0, 4, 5, 6]]])  # (B, K, U)
    past = model.decoder.start()
    for position in range(tokens.shape[2]):
        logits = model.decoder.step(tokens[..., position], audio, past)
        for beam in range(2):
            whole = model.decoder.final_logits(tokens[:, beam, : position + 1], audio)
            torch.testing.assert_close(logits[:, beam], whole[:, -1], atol=1e-5, rtol=1e-5)


def test_decoder_input_starts_with_bos_and_pads_what_is_ignored() -> None:
    labels = torch.tensor([[5, -100, 6, 1], [7, 1, -100, -100]])
    assert shifted(labels).tolist() == [[0, 5, 3, 6], [0, 7, 1, 3]]
