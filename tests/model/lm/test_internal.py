"""The internal language model token by token, against the decoder on whole sentences and with its weights changed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.evaluation.internal_lm import token_nll
from model.lm.internal import InternalLm, make_context_memory, make_zero_memory
from model.lm.scorer import score_sentences
from model.network.decoder import CrossAttentionMemory
from model.network.recogniser import Recogniser

SENTENCES = [[5, 6, 7, 1], [9, 1], [1]]


@pytest.fixture
def model(make_recipe) -> Recogniser:
    torch.manual_seed(2)
    model = Recogniser(make_recipe()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def nll_of_whole_sentences(model: Recogniser, memory: CrossAttentionMemory | None) -> list[float]:
    rows = [torch.tensor([0, *tokens]) for tokens in SENTENCES]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=3)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])
    return token_nll(model, ids, mask, memory).sum(dim=1).tolist()


@pytest.mark.parametrize("kind", ["skipped", "zeroed", "constant"])
def test_token_by_token_it_is_the_decoder_on_whole_sentences(model: Recogniser, kind: str) -> None:
    constant = make_context_memory(model.decoder, torch.randn(4, 16))
    memory = {"skipped": None, "zeroed": make_zero_memory(model.decoder), "constant": constant}[kind]
    scores = score_sentences(InternalLm(model.decoder, memory), SENTENCES, 0)
    assert [score.nll for score in scores] == pytest.approx(nll_of_whole_sentences(model, memory), abs=1e-3)


@torch.inference_mode()
def test_zeroed_leaves_the_bias_of_cross_attention_and_a_constant_its_projection(model: Recogniser) -> None:
    layers, contexts = list(model.decoder.typed_layers()), torch.randn(4, 16)
    zeroed = nll_of_whole_sentences(model, make_zero_memory(model.decoder))
    constant = nll_of_whole_sentences(model, make_context_memory(model.decoder, contexts))
    skipped = nll_of_whole_sentences(model, None)
    assert zeroed != pytest.approx(skipped, abs=1e-3)
    # Independently: with any audio, an output projection without weights adds its bias alone.
    audio = model.prepare_memory(model.encode(torch.randn(1, 60, 80), torch.tensor([60])))
    biases = [layer.cross_attention.out.bias.clone() for layer in layers]
    for added, expected in (([torch.zeros(16)] * 4, zeroed), (list(contexts), constant)):
        for layer, bias, context in zip(layers, biases, added, strict=True):
            weight = layer.cross_attention.out.weight
            layer.cross_attention.out.bias.copy_(bias + F.linear(context, weight))
        weights = [layer.cross_attention.out.weight.clone() for layer in layers]
        for layer in layers:
            layer.cross_attention.out.weight.zero_()
        assert nll_of_whole_sentences(model, audio) == pytest.approx(expected, abs=1e-3)
        for layer, weight in zip(layers, weights, strict=True):
            layer.cross_attention.out.weight.copy_(weight)
    for layer in layers:
        layer.cross_attention.out.bias.zero_()
    assert nll_of_whole_sentences(model, make_zero_memory(model.decoder)) == pytest.approx(skipped, abs=1e-3)
