from __future__ import annotations

import torch

from model.evaluation.internal_lm import sequence_perplexities
from model.network.recogniser import Recogniser


def test_perplexity_is_the_exponential_of_the_mean_nll_with_eos_and_without_bos(make_recipe) -> None:
    torch.manual_seed(2)
    model = Recogniser(make_recipe()).eval()
    ids = torch.tensor([[0, 5, 6, 1], [0, 9, 1, 3]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    log_probs = model.decoder.final_logits(ids, None).log_softmax(-1)
    first = -(log_probs[0, 0, 5] + log_probs[0, 1, 6] + log_probs[0, 2, 1]) / 3
    second = -(log_probs[1, 0, 9] + log_probs[1, 1, 1]) / 2
    torch.testing.assert_close(sequence_perplexities(model, ids, mask), torch.stack((first, second)).exp())


def test_the_internal_lm_skips_cross_attention(make_recipe) -> None:
    model = Recogniser(make_recipe()).eval()
    for layer in model.decoder.layers:
        torch.nn.init.constant_(layer.cross_attention.out.bias, 1e3)  # would change the logits if the sublayer ran
    before = sequence_perplexities(model, torch.tensor([[0, 5, 1]]), torch.ones(1, 3))
    for layer in model.decoder.layers:
        torch.nn.init.zeros_(layer.cross_attention.out.bias)
    torch.testing.assert_close(before, sequence_perplexities(model, torch.tensor([[0, 5, 1]]), torch.ones(1, 3)))
