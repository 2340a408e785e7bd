"""CUDA graphs of the decoder's step: what is replayed is what is computed operator by operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from model.data.batches import Batch
from model.decoding import decoder_steps
from model.decoding.beam_search import Hypothesis, decode
from model.decoding.decoder_steps import CapturedStep, Graphs, PlainSteps, keep_graphs
from model.decoding.static_step import TOKENS, Shape, StaticStep, StaticSteps
from model.network.recogniser import Recogniser

CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def model(device: torch.device, make_model: Callable[..., Recogniser]) -> Recogniser:
    model = make_model(values={"tokenizer.vocabulary": 40}).to(device).eval()
    with torch.no_grad():
        model.decoder.final.weight[model.special.eos] = -1.0  # hypotheses run into their limits
    return model


def search(model: Recogniser, batch: Batch, beam: int, ctc_weight: float) -> list[list[Hypothesis]]:
    moved = batch.to(model.device)
    return decode(model, moved.features, moved.lengths, beam=beam, ctc_weight=ctc_weight)


@pytest.mark.parametrize(("beam", "ctc_weight"), [(1, 0.0), (4, 0.0), (4, 0.3)])
def test_searches_in_which_graphs_are_kept_find_what_others_find(
    model: Recogniser, batch: Batch, beam: int, ctc_weight: float
) -> None:
    expected = search(model, batch, beam, ctc_weight)
    with keep_graphs():
        for _ in range(2):  # the second one captures nothing
            for ours, theirs in zip(search(model, batch, beam, ctc_weight), expected, strict=True):
                assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], rel=1e-3)
                assert ours[0].tokens == theirs[0].tokens
        graphs = decoder_steps._kept.get()
        assert graphs is not None
        assert not graphs.has_failed
        assert bool(graphs._steps) is (model.device.type == "cuda"), "no step is captured elsewhere"


@torch.inference_mode()
def test_static_steps_give_the_logits_of_plain_ones(model: Recogniser, batch: Batch) -> None:
    """Captured on a GPU, also where hypotheses change places, utterances leave, and more room is needed."""
    moved, graphs = batch.to(model.device), Graphs(CapturedStep if model.device.type == "cuda" else StaticStep)
    memory = model.prepare_memory(model.encode(moved.features, moved.lengths))
    plain, static = PlainSteps(model.decoder, memory, 3), graphs.open(model.decoder, memory, 3)
    utterances = len(batch.ids)
    for number in range(2 * TOKENS):
        tokens = (torch.arange(3 * utterances, device=model.device).view(-1, 3) + number) % 40
        torch.testing.assert_close(static.step(tokens), plain.step(tokens), **CLOSE)
        left = torch.tensor([0], device=model.device) if number == TOKENS // 2 else None
        utterances = 1 if left is not None else utterances
        rows = torch.arange(3 * utterances, device=model.device).view(-1, 3)
        rows = (rows.flip(1) if number % 2 else rows).flatten()
        plain.select(rows, left)
        static.select(rows, left)
    assert isinstance(static, StaticSteps)
    assert not graphs.has_failed


@pytest.mark.gpu
def test_a_replay_reads_weights_that_changed_in_their_place(gpu: torch.device, make_model: Callable) -> None:
    model = make_model().to(gpu).eval()
    step = CapturedStep(model.decoder, Shape(2, 2, 2 * TOKENS, 64))
    assert decoder_steps.agrees(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert decoder_steps.agrees(step)
